//! `compress`, `uncompress`: zlib streams (RFC 1950), piece by piece, so that time and memory stay within the guest's
//! budgets.

use flate2::{
    Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status as Progress,
};

use super::super::{Call, Stop};
use crate::abi::numbers::Status;

/// Bytes that are read or made between two looks at the budget.
const PIECE: usize = 64 << 10;

pub(super) fn compress(call: &mut Call<'_>, input: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut stream = Compress::new(Compression::default(), true);
    run(call, input, |piece, out| {
        let last = piece.len() < PIECE;
        let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
        let before = (stream.total_in(), stream.total_out());
        let progress =
            stream.compress(piece, out, flush).map_err(|_| Status::SerializationFailure)?;
        Ok((progress, stream.total_in() - before.0, stream.total_out() - before.1))
    })
}

/// What follows the end of the stream is ignored, as zlib does.
pub(super) fn uncompress(call: &mut Call<'_>, input: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut stream = Decompress::new(true);
    run(call, input, |piece, out| {
        let before = (stream.total_in(), stream.total_out());
        let progress = stream
            .decompress(piece, out, FlushDecompress::None)
            .map_err(|_| Status::SerializationFailure)?;
        Ok((progress, stream.total_in() - before.0, stream.total_out() - before.1))
    })
}

/// How a step went, and how many bytes it has read and made.
type Step = Result<(Progress, u64, u64), Status>;

/// Drives a stream to its end. Output that the guest's memory could not take is a failure, not a reason to grow.
fn run(
    call: &mut Call<'_>,
    mut input: &[u8],
    mut step: impl FnMut(&[u8], &mut [u8]) -> Step,
) -> Result<Vec<u8>, Stop> {
    let mut output = Vec::new();
    let mut buffer = vec![0; PIECE];
    loop {
        call.check_budget()?;
        let piece = &input[..input.len().min(PIECE)];
        let (progress, read, made) = step(piece, &mut buffer)?;
        let (read, made) = (read as usize, made as usize);
        if made > call.guest().quota.room() {
            return Err(Status::SerializationFailure.into());
        }
        call.hold(made as u32)?;
        output.extend_from_slice(&buffer[..made]);
        input = &input[read..];
        match progress {
            Progress::StreamEnd => return Ok(output),
            _ if read == 0 && made == 0 => return Err(Status::SerializationFailure.into()),
            _ => {}
        }
    }
}
