//! What PipeWire's parameters are written in: a size, a type, and what it says, in multiples of eight bytes.
//!
//! As much of it as formats of pictures need. The bytes come from the person's own sound and picture server; they are read
//! with care all the same.

const ID: u32 = 3;
const INT: u32 = 4;
const RECTANGLE: u32 = 10;
const FRACTION: u32 = 11;
const OBJECT: u32 = 15;
const CHOICE: u32 = 19;

const CHOICE_NONE: u32 = 0;
const CHOICE_RANGE: u32 = 1;
const CHOICE_ENUM: u32 = 3;
const CHOICE_FLAGS: u32 = 4;

const OBJECT_FORMAT: u32 = 0x4_0003;
const OBJECT_BUFFERS: u32 = 0x4_0004;
const OBJECT_META: u32 = 0x4_0005;

/// Parameters by number.
pub(super) const PARAM_ENUM_FORMAT: u32 = 3;
pub(super) const PARAM_FORMAT: u32 = 4;
const PARAM_BUFFERS: u32 = 5;
const PARAM_META: u32 = 6;

const MEDIA_TYPE: u32 = 1;
const MEDIA_SUBTYPE: u32 = 2;
const VIDEO_FORMAT: u32 = 0x2_0001;
const VIDEO_SIZE: u32 = 0x2_0003;
const VIDEO_FRAME_RATE: u32 = 0x2_0004;
const VIDEO_MAX_FRAME_RATE: u32 = 0x2_0005;

const TYPE_VIDEO: u32 = 2;
const SUBTYPE_RAW: u32 = 1;

const BUFFERS_DATA_TYPE: u32 = 6;
/// Memory that can be read where it is: by a pointer, or by a descriptor.
const READABLE_MEMORY: u32 = 1 << 1 | 1 << 2;

const META_TYPE: u32 = 1;
const META_SIZE: u32 = 2;
/// The part of a picture that matters: windows lie within larger ones.
pub(super) const META_CROP: u32 = 2;
const META_CROP_BYTES: u32 = 16;

/// How the first three bytes are a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Blue, green, red.
    Bgr,
    /// Red, green, blue.
    Rgb,
}

/// The numbers of formats that are understood, best first, with the bytes of a pixel.
const FORMATS: [(u32, Order, usize); 6] = [
    (8, Order::Bgr, 4),
    (12, Order::Bgr, 4),
    (7, Order::Rgb, 4),
    (11, Order::Rgb, 4),
    (16, Order::Bgr, 3),
    (15, Order::Rgb, 3),
];

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) order: Order,
    /// Of a pixel: 3 or 4.
    pub(super) bytes: usize,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Writes values one behind the other, each filled up to eight bytes.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn word(&mut self, word: u32) {
        self.0.extend_from_slice(&word.to_ne_bytes());
    }

    /// A value of one type, of these words.
    fn value(&mut self, kind: u32, words: &[u32]) {
        self.word(4 * words.len() as u32);
        self.word(kind);
        words.iter().for_each(|word| self.word(*word));
        self.fill();
    }

    fn fill(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }

    fn property(&mut self, key: u32) {
        self.word(key);
        self.word(0);
    }

    /// One of several values, the preferred one first; each of `each` words.
    fn choice(&mut self, choice: u32, kind: u32, each: usize, words: &[u32]) {
        self.word((4 * words.len() + 16) as u32);
        self.word(CHOICE);
        self.word(choice);
        self.word(0);
        self.word(4 * each as u32);
        self.word(kind);
        words.iter().for_each(|word| self.word(*word));
        self.fill();
    }

    fn object(kind: u32, id: u32, properties: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut body = Self::default();
        body.word(kind);
        body.word(id);
        properties(&mut body);
        let mut whole = Self::default();
        whole.word(body.0.len() as u32);
        whole.word(OBJECT);
        whole.0.extend(body.0);
        whole.0
    }
}

/// The pictures that are understood, at most `fps` of them a second.
pub(super) fn formats(fps: u32) -> Vec<u8> {
    Writer::object(OBJECT_FORMAT, PARAM_ENUM_FORMAT, |pod| {
        pod.property(MEDIA_TYPE);
        pod.value(ID, &[TYPE_VIDEO]);
        pod.property(MEDIA_SUBTYPE);
        pod.value(ID, &[SUBTYPE_RAW]);
        pod.property(VIDEO_FORMAT);
        // The preferred one stands before all of them.
        let mut formats = vec![FORMATS[0].0];
        formats.extend(FORMATS.map(|(number, ..)| number));
        pod.choice(CHOICE_ENUM, ID, 1, &formats);
        pod.property(VIDEO_SIZE);
        pod.choice(
            CHOICE_RANGE,
            RECTANGLE,
            2,
            &[1920, 1080, 1, 1, 65535, 65535],
        );
        // None by itself: a picture comes when something changed.
        pod.property(VIDEO_FRAME_RATE);
        pod.choice(CHOICE_RANGE, FRACTION, 2, &[0, 1, 0, 1, 1000, 1]);
        pod.property(VIDEO_MAX_FRAME_RATE);
        pod.choice(CHOICE_RANGE, FRACTION, 2, &[fps, 1, 1, 1, fps, 1]);
    })
}

/// In which memory pictures may come.
pub(super) fn buffers() -> Vec<u8> {
    Writer::object(OBJECT_BUFFERS, PARAM_BUFFERS, |pod| {
        pod.property(BUFFERS_DATA_TYPE);
        pod.choice(CHOICE_FLAGS, INT, 1, &[READABLE_MEMORY]);
    })
}

/// What is to be told of each picture.
pub(super) fn metas() -> Vec<u8> {
    Writer::object(OBJECT_META, PARAM_META, |pod| {
        pod.property(META_TYPE);
        pod.value(ID, &[META_CROP]);
        pod.property(META_SIZE);
        pod.value(INT, &[META_CROP_BYTES]);
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// The words of the value that begins there, of the wanted type; of a choice, those of the first.
fn value(bytes: &[u8], kind: u32) -> Option<&[u8]> {
    let size = word(bytes, 0)? as usize;
    let (found, words) = (word(bytes, 4)?, bytes.get(8..)?.get(..size)?);
    match found {
        CHOICE => {
            let choices = CHOICE_NONE..=CHOICE_FLAGS;
            let is_wanted = choices.contains(&word(words, 0)?) && word(words, 12)? == kind;
            let each = word(words, 8)? as usize;
            is_wanted.then(|| words.get(16..)?.get(..each)).flatten()
        }
        _ => (found == kind).then_some(words),
    }
}

/// What was agreed on; nothing where it is none of what was offered.
pub(super) fn read_format(pod: &[u8]) -> Option<Format> {
    let size = word(pod, 0)? as usize;
    let body = pod.get(8..)?.get(..size)?;
    if word(pod, 4)? != OBJECT || word(body, 0)? != OBJECT_FORMAT {
        return None;
    }
    let (mut order, mut sides) = (None, None);
    let mut rest = body.get(8..)?;
    while !rest.is_empty() {
        let (key, property) = (word(rest, 0)?, rest.get(8..)?);
        match key {
            MEDIA_TYPE if word(value(property, ID)?, 0)? != TYPE_VIDEO => return None,
            MEDIA_SUBTYPE if word(value(property, ID)?, 0)? != SUBTYPE_RAW => return None,
            VIDEO_FORMAT => {
                let number = word(value(property, ID)?, 0)?;
                order = FORMATS.iter().find(|(of, ..)| *of == number);
            }
            VIDEO_SIZE => {
                let value = value(property, RECTANGLE)?;
                sides = Some((word(value, 0)?, word(value, 4)?));
            }
            _ => {}
        }
        let length = 8 + (word(property, 0)? as usize).checked_next_multiple_of(8)?;
        rest = property.get(length..)?;
    }
    let (&(_, order, bytes), (width, height)) = (order?, sides?);
    Some(Format {
        order,
        bytes,
        width,
        height,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a compositor answers what was offered.
    fn agreed(format: u32, sides: [u32; 2]) -> Vec<u8> {
        Writer::object(OBJECT_FORMAT, PARAM_FORMAT, |pod| {
            pod.property(MEDIA_TYPE);
            pod.value(ID, &[TYPE_VIDEO]);
            pod.property(MEDIA_SUBTYPE);
            pod.value(ID, &[SUBTYPE_RAW]);
            pod.property(VIDEO_FORMAT);
            pod.value(ID, &[format]);
            pod.property(VIDEO_SIZE);
            pod.value(RECTANGLE, &sides);
            pod.property(VIDEO_FRAME_RATE);
            pod.value(FRACTION, &[0, 1]);
        })
    }

    #[test]
    fn what_was_agreed_on_is_read() {
        let format = |order, bytes| Format {
            order,
            bytes,
            width: 800,
            height: 600,
        };
        assert_eq!(
            read_format(&agreed(8, [800, 600])),
            Some(format(Order::Bgr, 4))
        );
        assert_eq!(
            read_format(&agreed(11, [800, 600])),
            Some(format(Order::Rgb, 4))
        );
        assert_eq!(
            read_format(&agreed(2, [800, 600])),
            None,
            "I420 was not offered"
        );
        assert_eq!(
            read_format(&agreed(15, [800, 600])),
            Some(format(Order::Rgb, 3))
        );
        // Of a choice the first counts.
        let first = read_format(&formats(30)).unwrap();
        assert_eq!((first.width, first.height), (1920, 1080));
        assert_eq!(read_format(&buffers()), None);
        assert_eq!(read_format(&metas()), None);
    }

    #[test]
    fn pods_say_how_long_they_are_in_eights() {
        for pod in [formats(30), buffers(), metas()] {
            assert_eq!(pod.len() % 8, 0);
            assert_eq!(word(&pod, 0).unwrap() as usize + 8, pod.len());
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(mut pod in Just(agreed(8, [800, 600])), at in 0usize..120, to: u8, cut in 0usize..120) {
            let at = at % pod.len();
            pod[at] = to;
            read_format(&pod);
            pod.truncate(cut);
            read_format(&pod);
        }
    }
}
