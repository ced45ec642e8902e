//! The codec that encodes requests into a buffer of the right size.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// A [`ProstCodec`] whose buffer is allocated with the size of the request. The buffer of `ProstCodec` has 8 KiB, which is
/// too large for most requests, and is copied several times while it grows for a larger one.
#[derive(Debug)]
pub(super) struct SizedCodec<T, U>(PhantomData<(T, U)>);

/// The encoder of a [`SizedCodec`].
#[derive(Debug)]
pub(super) struct SizedEncoder<T>(ProstEncoder<T>);

impl<T, U> Default for SizedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for SizedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = SizedEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> SizedEncoder<T> {
        SizedEncoder(ProstEncoder::default())
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::default().decoder()
    }
}

impl<T: Message> Encoder for SizedEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        self.0.encode(item, buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        // A unary request is one message, so the second value, which is for streams, does not matter.
        BufferSettings::new(64, 1)
    }
}
