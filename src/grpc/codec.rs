//! How requests are decoded: as the generated code would, once it is known that what it makes of one is not too much.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::to_status;
use crate::{broker::BrokerError, proto::parts};

/// For the services of `proto/liminal/v1`; the generated code names it.
pub struct CountingCodec<T, U>(PhantomData<(T, U)>);

/// Decodes what fits.
pub struct CountingDecoder<U>(ProstDecoder<U>);

impl<T, U> Default for CountingCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for CountingCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CountingDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountingDecoder(ProstDecoder::default())
    }
}

impl<U: Message + Default + 'static> Decoder for CountingDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // A message lies in one piece.
        if !parts::fit::<U>(buffer.chunk()) {
            let reason =
                "the request has so many parts that they would take too much memory: send fewer at once".into();
            return Err(to_status(&BrokerError::InvalidArgument { reason }));
        }
        self.0.decode(buffer)
    }
}
