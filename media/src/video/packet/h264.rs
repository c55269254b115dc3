//! H.264 in RTP: RFC 6184 with packetization-mode 1: single NAL units, several in one STAP-A, one in several FU-A.

const ACCESS_UNIT_DELIMITER: u8 = 9;
const FILLER: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

const TYPE: u8 = 0x1f;
const IMPORTANCE: u8 = 0x60;
const FORBIDDEN: u8 = 0x80;
const START: u8 = 0x80;
const END: u8 = 0x40;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Bytes in front of a fragment: indicator and header.
const FRAGMENT_HEADER_BYTES: usize = 2;

/// The NAL units of an access unit of Annex B, without start codes and the zeros around them.
fn units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    let mut is_first = true;
    std::iter::from_fn(move || {
        loop {
            let from = rest?;
            let code = from.windows(3).position(|window| window == [0, 0, 1]);
            let (unit, after) = match code {
                Some(at) => (from.get(..at)?, from.get(at + 3..)),
                None => (from, None),
            };
            rest = after;
            // What stands before the first start code is no unit.
            if std::mem::take(&mut is_first) {
                continue;
            }
            let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
            return unit.get(..unit.len() - zeros);
        }
    })
}

/// The NAL units of an access unit of Annex B that mean anything to a decoder.
pub(crate) fn sent_units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    units(bytes).filter(|unit| is_sent(unit))
}

fn is_sent(unit: &[u8]) -> bool {
    unit.first()
        .is_some_and(|header| !matches!(header & TYPE, ACCESS_UNIT_DELIMITER | FILLER))
}

/// One packet of units that fit.
fn aggregate(units: &[&[u8]]) -> Vec<u8> {
    if let [unit] = units {
        return unit.to_vec();
    }
    let headers = || units.iter().filter_map(|unit| unit.first());
    let importance = headers().map(|header| header & IMPORTANCE).max();
    let forbidden = headers().fold(0, |bits, header| bits | header & FORBIDDEN);
    let mut out = vec![forbidden | importance.unwrap_or(0) | STAP_A];
    for unit in units {
        out.extend_from_slice(&u16::try_from(unit.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(unit);
    }
    out
}

/// The payloads of an access unit in Annex B format, each at most `limit` bytes, which is at least 64 and at most 65535.
/// `None` if there is nothing to be sent.
#[must_use]
pub fn split(unit: &[u8], limit: usize) -> Option<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    let mut together: Vec<&[u8]> = Vec::new();
    let mut bytes = 1;
    for unit in sent_units(unit) {
        if !together.is_empty() && bytes + 2 + unit.len() > limit {
            packets.push(aggregate(&together));
            together.clear();
            bytes = 1;
        }
        if bytes + 2 + unit.len() <= limit {
            bytes += 2 + unit.len();
            together.push(unit);
        } else if unit.len() <= limit {
            packets.push(unit.to_vec());
        } else {
            let (header, rest) = unit.split_first()?;
            let pieces = rest.chunks(limit.checked_sub(FRAGMENT_HEADER_BYTES)?.max(1));
            let last = pieces.len() - 1;
            for (n, piece) in pieces.enumerate() {
                let start = if n == 0 { START } else { 0 };
                let end = if n == last { END } else { 0 };
                let mut packet = vec![header & !TYPE | FU_A, start | end | header & TYPE];
                packet.extend_from_slice(piece);
                packets.push(packet);
            }
        }
    }
    if !together.is_empty() {
        packets.push(aggregate(&together));
    }
    (!packets.is_empty()).then_some(packets)
}

/// The access unit whose payloads these are, in Annex B format. `None` if they are malformed, or one is missing.
#[must_use]
pub fn join<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    // The header of the unit that fragments are put together of.
    let mut begun: Option<u8> = None;
    for payload in payloads {
        let (header, rest) = payload.split_first()?;
        match header & TYPE {
            FU_A => {
                let (flags, piece) = rest.split_first()?;
                let unit = header & !TYPE | flags & TYPE;
                let expected = (flags & START == 0).then_some(unit);
                if begun != expected || piece.is_empty() || flags & (START | END) == START | END {
                    return None;
                }
                if flags & START != 0 {
                    out.extend_from_slice(&START_CODE);
                    out.push(unit);
                }
                out.extend_from_slice(piece);
                begun = (flags & END == 0).then_some(unit);
            }
            _ if begun.is_some() => return None,
            STAP_A => {
                let mut rest = rest;
                while !rest.is_empty() {
                    let (length, after) = rest.split_first_chunk::<2>()?;
                    let length = usize::from(u16::from_be_bytes(*length));
                    let (unit, after) = after.split_at_checked(length)?;
                    if unit.is_empty() {
                        return None;
                    }
                    out.extend_from_slice(&START_CODE);
                    out.extend_from_slice(unit);
                    rest = after;
                }
            }
            1..=23 => {
                out.extend_from_slice(&START_CODE);
                out.extend_from_slice(payload);
            }
            _ => return None,
        }
    }
    (begun.is_none() && !out.is_empty()).then_some(out)
}
