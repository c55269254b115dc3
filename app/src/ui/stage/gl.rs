//! Pictures on the graphics card: three planes as three textures, made into colours by a shader. All unsafe code of the
//! window is here.
//!
//! Everything runs on the thread that draws, inside a callback of egui's, which sets its own state anew behind it. What
//! is uploaded is memory that nobody changes meanwhile.

#![expect(unsafe_code, reason = "OpenGL is a C library")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahoy_media::video::{
    frame::{Frame, Plane, Size},
    latest::Newest,
};
use eframe::{
    egui::PaintCallbackInfo,
    egui_glow::ShaderVersion,
    glow::{self, HasContext as _},
};

/// Of a picture that is drawn smaller than this share of its width, each pixel is the mean of four places, or fine lines
/// come and go. Smaller textures made by the driver would be as good, but to make them some drivers wait until all that
/// was drawn before is done, which takes ten milliseconds where the processor draws.
const FILTERED_BELOW: f32 = 0.6;

const VERTEX: &str = "
#if NEW
in vec2 a_pos;
out vec2 v_pos;
#else
attribute vec2 a_pos;
varying vec2 v_pos;
#endif
void main() {
    v_pos = a_pos;
    gl_Position = vec4(a_pos * 2.0 - 1.0, 0.0, 1.0);
}
";

/// Frames are BT.709 in the limited range: see `ahoy_media::video::frame`. The corners are cut off by how far a pixel
/// lies outside of the rounded rectangle.
const FRAGMENT: &str = "
#if NEW
in vec2 v_pos;
out vec4 f_color;
#define TAKE texture
#else
varying vec2 v_pos;
#define f_color gl_FragColor
#define TAKE texture2D
#endif
uniform sampler2D u_y;
uniform sampler2D u_u;
uniform sampler2D u_v;
uniform vec2 u_size;
uniform float u_radius;
uniform float u_mirror;
uniform vec2 u_step;
float take(sampler2D plane, vec2 at) {
    if (u_step.x == 0.0) {
        return TAKE(plane, at).r * 255.0;
    }
    vec2 other = vec2(u_step.x, -u_step.y);
    return (TAKE(plane, at + u_step).r + TAKE(plane, at - u_step).r
        + TAKE(plane, at + other).r + TAKE(plane, at - other).r) * 63.75;
}
void main() {
    vec2 at = vec2(mix(v_pos.x, 1.0 - v_pos.x, u_mirror), 1.0 - v_pos.y);
    float y = (take(u_y, at) - 16.0) / 219.0;
    float u = (take(u_u, at) - 128.0) / 224.0;
    float v = (take(u_v, at) - 128.0) / 224.0;
    vec3 color = vec3(y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u);
    vec2 off = abs(v_pos * u_size - u_size * 0.5) - (u_size * 0.5 - u_radius);
    float outside = length(max(off, 0.0)) - u_radius;
    float alpha = clamp(0.5 - outside, 0.0, 1.0);
    f_color = vec4(clamp(color, 0.0, 1.0) * alpha, alpha);
}
";

/// Whose picture it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ui) enum Place {
    /// Of the other side.
    Theirs,
    /// Our own.
    Own,
    /// Our own too, where there is no call.
    Mirror,
}

impl Place {
    const COUNT: usize = 3;
}

/// Textures of one place.
#[derive(Debug)]
struct Picture {
    textures: [glow::Texture; 3],
    size: Option<Size>,
    number: Option<u64>,
}

#[derive(Debug)]
struct Gl {
    program: glow::Program,
    vertices: glow::Buffer,
    array: Option<glow::VertexArray>,
    position: u32,
    planes: [Option<glow::UniformLocation>; 3],
    size: Option<glow::UniformLocation>,
    radius: Option<glow::UniformLocation>,
    mirror: Option<glow::UniformLocation>,
    step: Option<glow::UniformLocation>,
    /// One sample for each of a plane: by what name depends on the version.
    format: (i32, u32),
    pictures: [Picture; Place::COUNT],
}

#[derive(Debug, Default)]
enum State {
    #[default]
    New,
    Ready(Gl),
    Broken,
}

/// Draws pictures. Copies are the same.
#[derive(Debug, Clone, Default)]
pub(in crate::ui) struct Easel(Arc<Mutex<State>>);

impl Easel {
    /// Only ever locked on the thread that draws, so nobody waits here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether pictures cannot be drawn by this driver.
    pub(in crate::ui) fn is_broken(&self) -> bool {
        matches!(*self.state(), State::Broken)
    }

    /// Draws a picture over the whole of what `info` shows, with corners of this radius in pixels. Nothing if the driver
    /// refuses.
    pub(in crate::ui) fn paint(
        &self,
        gl: &glow::Context,
        info: &PaintCallbackInfo,
        place: Place,
        newest: &Newest,
        radius: f32,
    ) {
        let mut state = self.state();
        if let State::New = *state {
            // SAFETY: egui calls with its context current, on the thread that owns it.
            let made = unsafe { Gl::new(gl) };
            *state = match made {
                Ok(made) => State::Ready(made),
                Err(error) => {
                    tracing::error!(error, "pictures cannot be drawn");
                    State::Broken
                }
            };
        }
        let State::Ready(ready) = &mut *state else {
            return;
        };
        let viewport = info.viewport_in_pixels();
        let pixels = [viewport.width_px as f32, viewport.height_px as f32];
        // SAFETY: as above, and all names are of this context.
        unsafe { ready.paint(gl, place, newest, pixels, radius) };
    }

    /// Gives everything back. The context must be the one that was drawn with.
    pub(in crate::ui) fn destroy(&self, gl: &glow::Context) {
        if let State::Ready(ready) = std::mem::take(&mut *self.state()) {
            // SAFETY: the names are of this context, and nobody has them any more.
            unsafe { ready.destroy(gl) };
        }
    }
}

impl Gl {
    /// # Safety
    /// The context is current.
    unsafe fn new(gl: &glow::Context) -> Result<Self, String> {
        let version = ShaderVersion::get(gl);
        let is_new = version.is_new_shader_interface();
        let precision = if version.is_embedded() {
            "#ifdef GL_FRAGMENT_PRECISION_HIGH\nprecision highp float;\n#else\nprecision mediump float;\n#endif\n"
        } else {
            ""
        };
        let head = format!(
            "{}#define NEW {}\n",
            version.version_declaration(),
            i32::from(is_new)
        );
        // SAFETY: as for this function.
        unsafe {
            let program = gl.create_program()?;
            for (kind, source) in [
                (glow::VERTEX_SHADER, format!("{head}{VERTEX}")),
                (
                    glow::FRAGMENT_SHADER,
                    format!("{head}{precision}{FRAGMENT}"),
                ),
            ] {
                let shader = gl.create_shader(kind)?;
                gl.shader_source(shader, &source);
                gl.compile_shader(shader);
                if !gl.get_shader_compile_status(shader) {
                    return Err(gl.get_shader_info_log(shader));
                }
                gl.attach_shader(program, shader);
                // It lives on with the program.
                gl.delete_shader(shader);
            }
            gl.link_program(program);
            if !gl.get_program_link_status(program) {
                return Err(gl.get_program_info_log(program));
            }
            let position = gl.get_attrib_location(program, "a_pos");
            let array = if is_new {
                Some(gl.create_vertex_array()?)
            } else {
                None
            };
            let vertices = gl.create_buffer()?;
            let corners: Vec<u8> = [0.0f32, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
                .into_iter()
                .flat_map(f32::to_ne_bytes)
                .collect();
            gl.bind_buffer(glow::ARRAY_BUFFER, Some(vertices));
            gl.buffer_data_u8_slice(glow::ARRAY_BUFFER, &corners, glow::STATIC_DRAW);
            let uniform = |name: &str| gl.get_uniform_location(program, name);
            Ok(Self {
                position: position.ok_or("the shader has no place for corners")?,
                planes: ["u_y", "u_u", "u_v"].map(uniform),
                size: uniform("u_size"),
                radius: uniform("u_radius"),
                mirror: uniform("u_mirror"),
                step: uniform("u_step"),
                // What only old versions know shows itself as red, too.
                format: if is_new {
                    (glow::R8.cast_signed(), glow::RED)
                } else {
                    (glow::LUMINANCE.cast_signed(), glow::LUMINANCE)
                },
                pictures: [Picture::new(gl)?, Picture::new(gl)?, Picture::new(gl)?],
                program,
                vertices,
                array,
            })
        }
    }

    /// # Safety
    /// The context is current, and the one that all here is of.
    unsafe fn paint(
        &mut self,
        gl: &glow::Context,
        place: Place,
        newest: &Newest,
        pixels: [f32; 2],
        radius: f32,
    ) {
        let picture = match (place, &mut self.pictures) {
            (Place::Theirs, [theirs, ..]) => theirs,
            (Place::Own, [_, own, _]) => own,
            (Place::Mirror, [.., mirror]) => mirror,
        };
        let [width, height] = pixels;
        let is_new = self.array.is_some();
        let is_small = width < newest.frame.size().width() as f32 * FILTERED_BELOW;
        // A quarter of a pixel to each side, of the picture's 1.
        let step = if is_small {
            [0.25 / width, 0.25 / height]
        } else {
            [0.0, 0.0]
        };
        // SAFETY: as for this function. Buffers are bound before they are told of.
        unsafe {
            if picture.number != Some(newest.number) {
                if is_new {
                    gl.bind_buffer(glow::PIXEL_UNPACK_BUFFER, None);
                }
                picture.upload(gl, &newest.frame, self.format);
                picture.number = Some(newest.number);
            }
            gl.use_program(Some(self.program));
            for (unit, (texture, uniform)) in picture.textures.iter().zip(&self.planes).enumerate()
            {
                gl.active_texture(glow::TEXTURE0 + unit as u32);
                gl.bind_texture(glow::TEXTURE_2D, Some(*texture));
                gl.uniform_1_i32(uniform.as_ref(), unit as i32);
            }
            gl.uniform_2_f32(self.size.as_ref(), width, height);
            gl.uniform_1_f32(
                self.radius.as_ref(),
                radius.min(width / 2.0).min(height / 2.0),
            );
            let mirror = if newest.is_mirrored { 1.0 } else { 0.0 };
            gl.uniform_1_f32(self.mirror.as_ref(), mirror);
            let [across, down] = step;
            gl.uniform_2_f32(self.step.as_ref(), across, down);
            if self.array.is_some() {
                gl.bind_vertex_array(self.array);
            }
            gl.bind_buffer(glow::ARRAY_BUFFER, Some(self.vertices));
            gl.enable_vertex_attrib_array(self.position);
            gl.vertex_attrib_pointer_f32(self.position, 2, glow::FLOAT, false, 0, 0);
            gl.draw_arrays(glow::TRIANGLE_STRIP, 0, 4);
            if self.array.is_some() {
                gl.bind_vertex_array(None);
            }
            gl.active_texture(glow::TEXTURE0);
        }
    }

    /// # Safety
    /// The context is current, and the one that all here is of.
    unsafe fn destroy(self, gl: &glow::Context) {
        // SAFETY: as for this function.
        unsafe {
            gl.delete_program(self.program);
            gl.delete_buffer(self.vertices);
            if let Some(array) = self.array {
                gl.delete_vertex_array(array);
            }
            for texture in self.pictures.iter().flat_map(|picture| picture.textures) {
                gl.delete_texture(texture);
            }
        }
    }
}

impl Picture {
    /// # Safety
    /// The context is current.
    unsafe fn new(gl: &glow::Context) -> Result<Self, String> {
        let texture = || {
            // SAFETY: as for this function.
            unsafe {
                let texture = gl.create_texture()?;
                gl.bind_texture(glow::TEXTURE_2D, Some(texture));
                for (name, value) in [
                    (glow::TEXTURE_MIN_FILTER, glow::LINEAR),
                    (glow::TEXTURE_MAG_FILTER, glow::LINEAR),
                    (glow::TEXTURE_WRAP_S, glow::CLAMP_TO_EDGE),
                    (glow::TEXTURE_WRAP_T, glow::CLAMP_TO_EDGE),
                ] {
                    gl.tex_parameter_i32(glow::TEXTURE_2D, name, value.cast_signed());
                }
                Ok::<_, String>(texture)
            }
        };
        Ok(Self {
            textures: [texture()?, texture()?, texture()?],
            size: None,
            number: None,
        })
    }

    /// # Safety
    /// The context is current, and the one that the textures are of.
    unsafe fn upload(&mut self, gl: &glow::Context, frame: &Frame, (internal, format): (i32, u32)) {
        let size = frame.size();
        let fits = self.size == Some(size);
        // SAFETY: as for this function; a plane has as many bytes as its width and height say, row by row without gaps.
        unsafe {
            gl.pixel_store_i32(glow::UNPACK_ALIGNMENT, 1);
            for (texture, plane) in self.textures.iter().zip(Plane::ALL) {
                let (width, height) = size.of(plane);
                let (width, height) = (width as i32, height as i32);
                let bytes = frame.plane(plane);
                gl.bind_texture(glow::TEXTURE_2D, Some(*texture));
                if fits {
                    gl.tex_sub_image_2d(
                        glow::TEXTURE_2D,
                        0,
                        0,
                        0,
                        width,
                        height,
                        format,
                        glow::UNSIGNED_BYTE,
                        glow::PixelUnpackData::Slice(Some(bytes)),
                    );
                } else {
                    gl.tex_image_2d(
                        glow::TEXTURE_2D,
                        0,
                        internal,
                        width,
                        height,
                        0,
                        format,
                        glow::UNSIGNED_BYTE,
                        glow::PixelUnpackData::Slice(Some(bytes)),
                    );
                }
            }
        }
        self.size = Some(size);
    }
}
