//! What the fuzz targets share: one input gives both the bytes a client sends and the cuts the
//! network makes in them.
//!
//! Run one with `cargo fuzz run frames` on a nightly toolchain, or on a stable one with
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run -s none frames`. The words in `dictionaries/` help where a target
//! has some, and `seeds/` give it a start; new inputs go to the first directory, which must exist:
//! `cargo fuzz run messages corpus/messages seeds/messages -- -dict=dictionaries/messages.dict`.

/// A fuzzer's input, taken apart.
pub struct Case<'a> {
    /// A limit for messages: small, so that it is often met.
    pub message_bytes_max: usize,
    /// Lengths of the first chunks; what is left after them is the last chunk.
    lengths: &'a [u8],
    /// What the client sends.
    pub bytes: &'a [u8],
}

/// How many bytes of an input are lengths of chunks.
const LENGTHS: usize = 6;

impl<'a> Case<'a> {
    /// `None` where there is not enough input for a case.
    pub fn read(data: &'a [u8]) -> Option<Case<'a>> {
        let (limit, data) = data.split_first_chunk::<2>()?;
        let (lengths, bytes) = data.split_at_checked(LENGTHS)?;
        let message_bytes_max = usize::from(u16::from_le_bytes(*limit)) % 2000;
        Some(Case {
            message_bytes_max,
            lengths,
            bytes,
        })
    }

    /// The bytes as the network cut them.
    pub fn chunks(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.bytes;
        let lengths = self.lengths.iter().map(|length| usize::from(*length));
        lengths.chain([usize::MAX]).map(move |length| {
            let (chunk, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            chunk
        })
    }
}
