"""A screen, as compositors give theirs to PipeWire: memory of its own, a picture whenever something changed.

Arguments: width, height, pictures a second. Reads pictures in BGRx from standard input, one after the other.
"""
import ctypes as c, mmap, os, struct, sys, threading, time

width, height, fps = map(int, sys.argv[1:])
stride, whole = 4 * width, 4 * width * height

pw = c.CDLL("libpipewire-0.3.so.0")
P = c.c_void_p
for name, result, arguments in [
    ("pw_thread_loop_new", P, [c.c_char_p, P]),
    ("pw_thread_loop_get_loop", P, [P]),
    ("pw_thread_loop_start", c.c_int, [P]),
    ("pw_thread_loop_lock", None, [P]),
    ("pw_thread_loop_unlock", None, [P]),
    ("pw_context_new", P, [P, P, c.c_size_t]),
    ("pw_context_connect", P, [P, P, c.c_size_t]),
    ("pw_properties_new_string", P, [c.c_char_p]),
    ("pw_stream_new", P, [P, c.c_char_p, P]),
    ("pw_stream_add_listener", None, [P, P, P, P]),
    ("pw_stream_connect", c.c_int, [P, c.c_int, c.c_uint32, c.c_int, P, c.c_uint32]),
    ("pw_stream_update_params", c.c_int, [P, P, c.c_uint32]),
    ("pw_stream_dequeue_buffer", P, [P]),
    ("pw_stream_queue_buffer", c.c_int, [P, P]),
    ("pw_stream_trigger_process", c.c_int, [P]),
]:
    function = getattr(pw, name)
    function.restype, function.argtypes = result, arguments


class Chunk(c.Structure):
    _fields_ = [("offset", c.c_uint32), ("size", c.c_uint32), ("stride", c.c_int32), ("flags", c.c_int32)]


class Data(c.Structure):
    _fields_ = [("type", c.c_uint32), ("flags", c.c_uint32), ("fd", c.c_int64), ("mapoffset", c.c_uint32),
                ("maxsize", c.c_uint32), ("data", P), ("chunk", c.POINTER(Chunk))]


class Buffer(c.Structure):
    _fields_ = [("n_metas", c.c_uint32), ("n_datas", c.c_uint32), ("metas", P), ("datas", c.POINTER(Data))]


class StreamBuffer(c.Structure):
    _fields_ = [("buffer", c.POINTER(Buffer))]


def value(kind, *words):
    return struct.pack("=II", 4 * len(words), kind) + struct.pack("=%dI" % len(words), *words) + b"\0" * (4 * len(words) % 8)


def pod(kind, parameter, properties):
    body = struct.pack("=II", kind, parameter)
    for key, filled in properties:
        body += struct.pack("=II", key, 0) + filled
    return struct.pack("=II", len(body), 15) + body


ID, INT, RECTANGLE, FRACTION = 3, 4, 10, 11


def flags(mask):
    return struct.pack("=IIIIIII", 20, 19, 4, 0, 4, INT, mask) + b"\0" * 4


formats = pod(0x40003, 3, [(1, value(ID, 2)), (2, value(ID, 1)), (0x20001, value(ID, 8)),
                           (0x20003, value(RECTANGLE, width, height)), (0x20004, value(FRACTION, 0, 1)),
                           (0x20005, value(FRACTION, fps, 1))])
buffers = pod(0x40004, 5, [(1, value(INT, 4)), (2, value(INT, 1)), (3, value(INT, whole)), (4, value(INT, stride)),
                           (6, flags(1 << 2))])


def several(*pods):
    texts = [c.create_string_buffer(text, len(text)) for text in pods]
    return (P * len(texts))(*[c.addressof(text) for text in texts]), texts


kept, memory = [], {}
streaming = threading.Event()
picture = sys.stdin.buffer.read(whole)


@c.CFUNCTYPE(None, P, c.c_int, c.c_int, c.c_char_p)
def on_state(_data, _old, new, _error):
    streaming.set() if new == 3 else streaming.clear()


@c.CFUNCTYPE(None, P, c.c_uint32, P)
def on_param(_data, number, parameter):
    if number == 4 and parameter:
        given, texts = several(buffers)
        pw.pw_stream_update_params(stream, given, 1)


@c.CFUNCTYPE(None, P, P)
def on_add(_data, buffer):
    data = c.cast(buffer, c.POINTER(StreamBuffer)).contents.buffer.contents.datas[0]
    descriptor = os.memfd_create("screen")
    os.ftruncate(descriptor, whole)
    memory[buffer] = mmap.mmap(descriptor, whole)
    data.type, data.flags, data.fd, data.mapoffset, data.maxsize, data.data = 2, 3, descriptor, 0, whole, None


@c.CFUNCTYPE(None, P, P)
def on_remove(_data, buffer):
    memory.pop(buffer, None)


@c.CFUNCTYPE(None, P)
def on_process(_data):
    buffer = pw.pw_stream_dequeue_buffer(stream)
    if not buffer:
        return
    memory[buffer][:] = picture
    chunk = c.cast(buffer, c.POINTER(StreamBuffer)).contents.buffer.contents.datas[0].chunk.contents
    chunk.offset, chunk.size, chunk.stride, chunk.flags = 0, whole, stride, 0
    pw.pw_stream_queue_buffer(stream, buffer)


class Events(c.Structure):
    _fields_ = [("version", c.c_uint32), ("destroy", P), ("state", type(on_state)), ("control", P), ("io", P),
                ("param", type(on_param)), ("add", type(on_add)), ("remove", type(on_remove)),
                ("process", type(on_process)), ("drained", P), ("command", P), ("trigger_done", P)]


events = Events(2, None, on_state, None, None, on_param, on_add, on_remove, on_process, None, None, None)
hook = (P * 6)()
pw.pw_init(None, None)
loop = pw.pw_thread_loop_new(b"screen", None)
context = pw.pw_context_new(pw.pw_thread_loop_get_loop(loop), None, 0)
core = pw.pw_context_connect(context, None, 0)
properties = pw.pw_properties_new_string(b"media.class=Video/Source node.name=test-screen")
stream = pw.pw_stream_new(core, b"test-screen", properties)
pw.pw_stream_add_listener(stream, c.addressof(hook), c.addressof(events), None)
given, texts = several(formats)
# A driver, with memory of its own.
assert pw.pw_stream_connect(stream, 1, 0xFFFFFFFF, 1 << 3 | 1 << 8, given, 1) >= 0
assert pw.pw_thread_loop_start(loop) >= 0
while True:
    time.sleep(1 / fps)
    if streaming.is_set():
        picture = sys.stdin.buffer.read(whole)
        if len(picture) < whole:
            break
        pw.pw_thread_loop_lock(loop)
        pw.pw_stream_trigger_process(stream)
        pw.pw_thread_loop_unlock(loop)
