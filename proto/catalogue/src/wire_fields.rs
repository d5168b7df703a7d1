//! The fields of a message as they stand in its bytes, by number: no descriptor, no copy, and nothing that a parser of
//! protobuf would pass over is passed over in silence.

/// Deepest that groups may stand in one another, as the protobuf libraries have it.
pub const MAX_DEPTH: usize = 100;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWire<'m> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a text, bytes, a message, packed numbers.
    Bytes(&'m [u8]),
    /// Wire types 3 and 4: what stands between them.
    Group(&'m [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// Bytes that are no message of protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no protobuf message")]
pub struct NoMessage;

/// The fields in their order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct WireFields<'m>(&'m [u8]);

impl<'m> WireFields<'m> {
    /// Of these bytes.
    pub fn of(message: &'m [u8]) -> Self {
        Self(message)
    }

    fn field(&mut self) -> Result<(u32, OnWire<'m>), NoMessage> {
        let (number, kind) = key(&mut self.0)?;
        let value = match kind {
            0 => OnWire::Varint(varint(&mut self.0)?),
            1 => OnWire::Fixed64(u64::from_le_bytes(chunk(&mut self.0)?)),
            2 => OnWire::Bytes(bytes(&mut self.0)?),
            3 => OnWire::Group(group(&mut self.0, number)?),
            5 => OnWire::Fixed32(u32::from_le_bytes(chunk(&mut self.0)?)),
            _ => return Err(NoMessage),
        };
        Ok((number, value))
    }
}

impl<'m> Iterator for WireFields<'m> {
    type Item = Result<(u32, OnWire<'m>), NoMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// A varint of at most ten bytes, whose bits beyond the 64th are dropped, as parsers do.
pub fn varint(rest: &mut &[u8]) -> Result<u64, NoMessage> {
    let mut value = 0u64;
    for at in 0..10 {
        let (&byte, tail) = rest.split_first().ok_or(NoMessage)?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(NoMessage)
}

/// So many bytes.
pub fn chunk<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NoMessage> {
    let (chunk, tail) = rest.split_first_chunk::<N>().ok_or(NoMessage)?;
    *rest = tail;
    Ok(*chunk)
}

/// A number of a field, and its wire type. A number that parsers would cut in different ways is none.
fn key(rest: &mut &[u8]) -> Result<(u32, u64), NoMessage> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number)).ok_or(NoMessage)?;
    Ok((number, key & 7))
}

fn bytes<'m>(rest: &mut &'m [u8]) -> Result<&'m [u8], NoMessage> {
    let length = usize::try_from(varint(rest)?).map_err(|_| NoMessage)?;
    let (bytes, tail) = rest.split_at_checked(length).ok_or(NoMessage)?;
    *rest = tail;
    Ok(bytes)
}

/// What stands before the end of a group that has begun. Groups within it are counted, not called: no depth takes the stack.
fn group<'m>(rest: &mut &'m [u8], number: u32) -> Result<&'m [u8], NoMessage> {
    let (whole, mut open) = (*rest, vec![number]);
    loop {
        let before = *rest;
        match key(rest)? {
            (_, 0) => _ = varint(rest)?,
            (_, 1) => _ = chunk::<8>(rest)?,
            (_, 2) => _ = bytes(rest)?,
            (number, 3) if open.len() < MAX_DEPTH => open.push(number),
            (number, 4) if open.last() == Some(&number) => {
                open.pop();
                if open.is_empty() {
                    return Ok(&whole[..whole.len() - before.len()]);
                }
            }
            (_, 5) => _ = chunk::<4>(rest)?,
            _ => return Err(NoMessage),
        }
    }
}
