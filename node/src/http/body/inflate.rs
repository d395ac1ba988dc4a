//! The buffer that a body grows in: inflating as bytes come, with room taken before memory.
//!
//! What never will be here: the network, or which answer a stop becomes.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use super::{IngestPermit, KIB};

/// First room of a body; most pushes of a till with a connection are smaller.
const FIRST_ROOM: usize = 4 * KIB;

/// What a decoder holds besides its output: its window, tables and buffers, rounded up.
const DECODER_ROOM: usize = 96 * KIB;

/// Why no more can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The inflated body is over its limit.
    TooLarge,
    /// The gate has no room.
    NoRoom,
    /// It is not gzip, is cut off, or its check sum is wrong.
    Damaged,
}

/// A body in the making.
#[derive(Debug)]
pub(super) enum Buffer {
    /// As sent.
    Plain(Kept),
    /// By gzip, also of several members.
    Gzip(Box<MultiGzDecoder<Kept>>),
}

impl Buffer {
    /// An empty buffer; a decoder's own memory is counted, too.
    pub(super) fn new(gzip: bool, limit: usize, mut permit: IngestPermit) -> Result<Self, Stop> {
        if gzip && !permit.grow(DECODER_ROOM) {
            return Err(Stop::NoRoom);
        }
        let kept = Kept { bytes: Vec::new(), limit, permit, stop: None };
        Ok(if gzip { Self::Gzip(Box::new(MultiGzDecoder::new(kept))) } else { Self::Plain(kept) })
    }

    /// Takes bytes as they were sent.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        match self {
            Self::Plain(kept) => kept.push(bytes),
            Self::Gzip(decoder) => {
                let written = decoder.write_all(bytes);
                written.map_err(|_| decoder.get_ref().stop.unwrap_or(Stop::Damaged))
            }
        }
    }

    /// The whole body; a stream that has not come to its end is damaged.
    pub(super) fn finish(self) -> Result<(Vec<u8>, IngestPermit), Stop> {
        let kept = match self {
            Self::Plain(kept) => kept,
            Self::Gzip(mut decoder) => {
                let finished = decoder.try_finish();
                finished.map_err(|_| decoder.get_ref().stop.unwrap_or(Stop::Damaged))?;
                decoder.finish().map_err(|_| Stop::Damaged)?
            }
        };
        Ok((kept.bytes, kept.permit))
    }
}

/// The inflated bytes, and the room that they take.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    permit: IngestPermit,
    stop: Option<Stop>,
}

impl Kept {
    fn push(&mut self, more: &[u8]) -> Result<(), Stop> {
        let length = self.bytes.len() + more.len();
        if length > self.limit {
            return Err(Stop::TooLarge);
        }
        let capacity = self.bytes.capacity();
        if length > capacity {
            // Doubled as a vector does by itself, but counted first and exact, so that the room
            // covers what is allocated and not only what is filled. In whole permits, or each step
            // would take a part of one more than the body can use.
            let wanted = length.max(capacity * 2).max(FIRST_ROOM).next_multiple_of(KIB);
            let wanted = wanted.min(self.limit.max(FIRST_ROOM));
            if !self.permit.grow(wanted - capacity) {
                return Err(Stop::NoRoom);
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Sticky: the decoder writes again when it is dropped.
        let pushed = self.stop.map_or(Ok(()), Err).and_then(|()| self.push(bytes));
        pushed.map(|()| bytes.len()).map_err(|stop| {
            self.stop = Some(stop);
            io::Error::other("the body is refused")
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
