//! EBML (RFC 8794): identifiers, sizes, and the few types of elements that a recording has.

/// A size that is not known yet, in eight bytes (RFC 8794 section 6.2).
pub(super) const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Fills a place that may be needed later (RFC 8794 section 11.3.2).
const VOID: u32 = 0xec;

/// An element of one byte's identifier cannot be shorter.
const LEAST_VOID: usize = 2;

/// An identifier as it stands, its length marker included.
pub(super) fn put_id(out: &mut Vec<u8>, id: u32) {
    let bytes = id.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    out.extend(bytes.iter().skip(zeros));
}

/// A size in as few bytes as it needs; at most 2^56 - 2.
pub(super) fn put_size(out: &mut Vec<u8>, size: u64) {
    // All ones of each length are reserved: they mean that the size is not known.
    let bytes = (1..8)
        .find(|bytes| size < (1 << (7 * bytes)) - 1)
        .unwrap_or(8);
    put_size_in(out, size, bytes);
}

/// A size in so many bytes, 1..=8.
pub(super) fn put_size_in(out: &mut Vec<u8>, size: u64, bytes: u32) {
    let marked = size | 1 << (7 * bytes);
    let all = marked.to_be_bytes();
    let skipped = all.len() - bytes as usize;
    out.extend(all.iter().skip(skipped));
}

/// An element of these bytes.
pub(super) fn put(out: &mut Vec<u8>, id: u32, payload: &[u8]) {
    put_id(out, id);
    put_size(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// An unsigned number, in as few bytes as it needs.
pub(super) fn put_uint(out: &mut Vec<u8>, id: u32, value: u64) {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(7);
    put(out, id, bytes.get(zeros..).unwrap_or_default());
}

/// A signed number of eight bytes.
pub(super) fn put_int(out: &mut Vec<u8>, id: u32, value: i64) {
    put(out, id, &value.to_be_bytes());
}

/// A floating-point number of eight bytes.
pub(super) fn put_float(out: &mut Vec<u8>, id: u32, value: f64) {
    put(out, id, &value.to_be_bytes());
}

/// A text.
pub(super) fn put_text(out: &mut Vec<u8>, id: u32, text: &str) {
    put(out, id, text.as_bytes());
}

/// An element that holds others.
pub(super) fn put_with(out: &mut Vec<u8>, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    put(out, id, &inner);
}

/// An element that means nothing and takes exactly so many bytes, 0 or 2..=100000.
pub(super) fn put_void(out: &mut Vec<u8>, bytes: usize) {
    if bytes < LEAST_VOID {
        debug_assert_eq!(bytes, 0, "a place of one byte cannot be filled");
        return;
    }
    put_id(out, VOID);
    let rest = bytes - 1;
    // The size takes as many bytes as it needs for what is left behind it.
    let of_size = (1..=4usize).find(|size| ((rest - size) as u64) < (1 << (7 * size)) - 1);
    let of_size = of_size.unwrap_or(4).min(rest);
    put_size_in(out, (rest - of_size) as u64, of_size as u32);
    out.resize(out.len() + rest - of_size, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_size(&mut out, value);
        out
    }

    #[test]
    fn sizes_take_as_few_bytes_as_they_need_and_never_mean_unknown() {
        assert_eq!(size(0), [0x80]);
        assert_eq!(size(126), [0xfe]);
        // 0xff would be the size that is not known (RFC 8794 section 6.2).
        assert_eq!(size(127), [0x40, 0x7f]);
        assert_eq!(size(16_382), [0x7f, 0xfe]);
        assert_eq!(size(16_383), [0x20, 0x3f, 0xff]);
        assert_eq!(size((1 << 49) - 1).len(), 8);
    }

    #[test]
    fn numbers_take_as_few_bytes_as_they_need() {
        let mut out = Vec::new();
        put_uint(&mut out, 0xd7, 0);
        put_uint(&mut out, 0x2ad7b1, 1_000_000);
        assert_eq!(
            out,
            [0xd7, 0x81, 0, 0x2a, 0xd7, 0xb1, 0x83, 0x0f, 0x42, 0x40]
        );
    }

    #[test]
    fn every_place_is_filled_exactly() {
        for bytes in (0..400).filter(|bytes| *bytes != 1).chain(16_380..16_400) {
            let mut out = Vec::new();
            put_void(&mut out, bytes);
            assert_eq!(out.len(), bytes);
        }
    }
}
