//! gRPC's length-prefixed messages: one byte of flags, four of length (big-endian), the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use portcullis_vm::Fields;

use super::{GRPC_ENCODING, GrpcStatus, MAX_MESSAGE};

const PREFIX: usize = 5;
const COMPRESSED: u8 = 1;

/// A message with its prefix.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

/// Takes messages out of what arrives. Holds one message at the most, and what has arrived with its end.
pub(super) struct Unframing {
    arrived: BytesMut,
    encoding: Option<String>,
}

impl Unframing {
    /// Of an answer with this head.
    pub(super) fn new(head: &Fields) -> Unframing {
        let encoding = head.get(GRPC_ENCODING).map(|name| String::from_utf8_lossy(name));
        let encoding = encoding.map(|name| name.into_owned()).filter(|name| name != "identity");
        Unframing { arrived: BytesMut::new(), encoding }
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.arrived.extend_from_slice(data);
    }

    /// The next message that is complete.
    ///
    /// # Errors
    /// What arrives is no message, or one that is not taken.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, GrpcStatus> {
        let Some((mut prefix, rest)) = self.arrived.split_at_checked(PREFIX) else {
            return Ok(None);
        };
        let (flags, length) = (prefix.get_u8(), prefix.get_u32() as usize);
        if flags != 0 {
            return Err(self.flagged(flags));
        }
        if length > MAX_MESSAGE {
            let text = format!("a message of {length} bytes is longer than {MAX_MESSAGE}");
            return Err(GrpcStatus::new(GrpcStatus::RESOURCE_EXHAUSTED, text));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.arrived.advance(PREFIX);
        Ok(Some(self.arrived.split_to(length).freeze()))
    }

    /// Nothing more arrives.
    ///
    /// # Errors
    /// It broke off within a message.
    pub(super) fn end(&self) -> Result<(), GrpcStatus> {
        match self.arrived.is_empty() {
            true => Ok(()),
            false => Err(GrpcStatus::new(GrpcStatus::INTERNAL, "the answer ends within a message")),
        }
    }

    fn flagged(&self, flags: u8) -> GrpcStatus {
        match &self.encoding {
            Some(encoding) if flags == COMPRESSED => {
                let text = format!("messages compressed with {encoding:?} are not read");
                GrpcStatus::new(GrpcStatus::UNIMPLEMENTED, text)
            }
            _ => GrpcStatus::new(GrpcStatus::INTERNAL, format!("a message has the flags {flags}")),
        }
    }
}
