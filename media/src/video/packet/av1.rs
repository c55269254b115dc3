//! AV1 in RTP: "RTP Payload Format For AV1" of AOM, version 1.0, sections 4.4 and 4.5.
//!
//! ```text
//!  0 1 2 3 4 5 6 7
//! +-+-+-+-+-+-+-+-+
//! |Z|Y| W |N|-|-|-|  then OBU elements: length (leb128, but not before the last one if W > 0), bytes
//! ```
//!
//! `Z`: the first element goes on from the packet before. `Y`: the last one goes on in the next. `W`: how many elements,
//! 0 if all of them have lengths. `N`: a coded video sequence begins. Temporal delimiters, tile lists and padding are not
//! sent; sizes within OBUs are left out, since the elements have them.

const CONTINUES: u8 = 0x80;
const GOES_ON: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

/// Elements of a packet whose last one needs no length.
const MAX_COUNTED: usize = 3;

/// A smaller piece of an OBU is not worth its length in the rest of a packet.
const MIN_PIECE: usize = 16;

/// Largest length of an element in a packet, in bytes.
const LENGTH_BYTES: usize = 2;

fn kind(header: u8) -> u8 {
    header >> 3 & 0x0f
}

fn is_sent(header: u8) -> bool {
    !matches!(kind(header), TEMPORAL_DELIMITER | TILE_LIST | PADDING)
}

/// A number and what follows it: AV1 section 4.10.5, at most 32 bits.
fn read_leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    let mut rest = bytes;
    for shift in (0..56).step_by(7) {
        let (byte, after) = rest.split_first()?;
        rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((usize::try_from(u32::try_from(value).ok()?).ok()?, rest));
        }
    }
    None
}

fn write_leb128(mut value: usize, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = (value & 0x7f).to_le_bytes();
        value >>= 7;
        out.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return;
        }
    }
}

/// The OBUs to be sent, without their sizes. `None` if the unit is malformed.
pub(crate) fn obus(unit: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut obus = Vec::new();
    let mut rest = unit;
    while let Some((header, after)) = rest.split_first() {
        let (head, after) = match header & HAS_EXTENSION {
            0 => (vec![header & !HAS_SIZE], after),
            _ => {
                let (extension, after) = after.split_first()?;
                (vec![header & !HAS_SIZE, *extension], after)
            }
        };
        let (payload, after) = match header & HAS_SIZE {
            0 => (after, &[][..]),
            _ => {
                let (size, after) = read_leb128(after)?;
                after.split_at_checked(size)?
            }
        };
        if is_sent(*header) {
            let mut obu = head;
            obu.extend_from_slice(payload);
            obus.push(obu);
        }
        rest = after;
    }
    Some(obus)
}

/// Writes a packet of these elements.
fn packet(elements: &[&[u8]], flags: u8) -> Vec<u8> {
    let counted = elements.len() <= MAX_COUNTED;
    let count = u8::try_from(elements.len()).unwrap_or(0);
    let mut out = vec![flags | if counted { count << 4 } else { 0 }];
    for (n, element) in elements.iter().enumerate() {
        if !counted || n + 1 < elements.len() {
            write_leb128(element.len(), &mut out);
        }
        out.extend_from_slice(element);
    }
    out
}

/// The payloads of a temporal unit in low-overhead format, each at most `limit` bytes, which is at least 64 and less than
/// 16384. `None` if the unit is malformed, or nothing of it is to be sent.
#[must_use]
pub fn split(unit: &[u8], is_key: bool, limit: usize) -> Option<Vec<Vec<u8>>> {
    let obus = obus(unit)?;
    let mut packets = Vec::new();
    let mut elements: Vec<&[u8]> = Vec::new();
    let mut flags = if is_key { NEW_SEQUENCE } else { 0 };
    let mut room = limit.checked_sub(1)?;
    for obu in &obus {
        let mut rest = obu.as_slice();
        while !rest.is_empty() {
            let fits = room.saturating_sub(LENGTH_BYTES);
            if fits < rest.len().min(MIN_PIECE) {
                if elements.is_empty() {
                    return None;
                }
                packets.push(packet(&elements, flags));
                elements.clear();
                (flags, room) = (0, limit - 1);
                continue;
            }
            let (piece, after) = rest.split_at_checked(fits.min(rest.len()))?;
            elements.push(piece);
            room -= piece.len() + LENGTH_BYTES;
            rest = after;
            if !rest.is_empty() {
                packets.push(packet(&elements, flags | GOES_ON));
                elements.clear();
                (flags, room) = (CONTINUES, limit - 1);
            }
        }
    }
    if !elements.is_empty() {
        packets.push(packet(&elements, flags));
    }
    (!packets.is_empty()).then_some(packets)
}

/// Appends an OBU with its size.
pub(crate) fn append(obu: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (header, mut rest) = obu.split_first()?;
    if !is_sent(*header) {
        return Some(());
    }
    let mut extension = None;
    if header & HAS_EXTENSION != 0 {
        let (byte, after) = rest.split_first()?;
        (extension, rest) = (Some(*byte), after);
    }
    if header & HAS_SIZE != 0 {
        let (size, after) = read_leb128(rest)?;
        if size != after.len() {
            return None;
        }
        rest = after;
    }
    out.push(header | HAS_SIZE);
    out.extend(extension);
    write_leb128(rest.len(), out);
    out.extend_from_slice(rest);
    Some(())
}

/// A temporal unit as files keep it: all OBUs with their sizes, and no temporal delimiter. `None` if it is malformed.
pub(crate) fn stored(unit: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(unit.len());
    for obu in obus(unit)? {
        append(&obu, &mut out)?;
    }
    Some(out)
}

/// The temporal unit whose payloads these are, in low-overhead format, with its temporal delimiter. `None` if they are
/// malformed, or one is missing.
#[must_use]
pub fn join<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut out = vec![TEMPORAL_DELIMITER << 3 | HAS_SIZE, 0];
    let delimiter = out.len();
    let mut begun: Option<Vec<u8>> = None;
    for payload in payloads {
        let (flags, mut rest) = payload.split_first()?;
        if (flags & CONTINUES != 0) != begun.is_some() || rest.is_empty() {
            return None;
        }
        let counted = usize::from(flags >> 4 & 0x03);
        let mut elements = 0;
        while !rest.is_empty() {
            elements += 1;
            let element;
            if elements == counted {
                (element, rest) = (rest, &[][..]);
            } else {
                let (length, after) = read_leb128(rest)?;
                (element, rest) = after.split_at_checked(length)?;
            }
            let mut obu = begun.take().unwrap_or_default();
            obu.extend_from_slice(element);
            if rest.is_empty() && flags & GOES_ON != 0 {
                begun = Some(obu);
            } else {
                append(&obu, &mut out)?;
            }
        }
        if counted > 0 && elements != counted {
            return None;
        }
    }
    (begun.is_none() && out.len() > delimiter).then_some(out)
}
