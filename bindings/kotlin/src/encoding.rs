//! uniffi converters for bodies and properties, which copy less than uniffi's own converters.
#![allow(unsafe_code, reason = "uniffi's converter traits are unsafe to implement: both sides must agree")]

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes};
use uniffi::{FfiConverter, MetadataBuffer, Result, TypeId, check_remaining};

use crate::UniFfiTag;

/// A message's body. It is encoded like a `Vec<u8>`, which uniffi would copy byte by byte. This copies it as
/// a whole.
pub(crate) struct Body(pub(crate) Bytes);

// SAFETY: the encoding is that of a `Vec<u8>`, and so is the type announced to the generator.
unsafe impl FfiConverter<UniFfiTag> for Body {
    uniffi::ffi_converter_rust_buffer_lift_and_lower!(UniFfiTag);

    const TYPE_ID_META: MetadataBuffer = <Vec<u8> as TypeId<UniFfiTag>>::TYPE_ID_META;

    fn write(body: Self, buffer: &mut Vec<u8>) {
        // The length fits: requests and responses are limited to much less than 2 GiB.
        buffer.put_i32(body.0.len() as i32);
        buffer.put_slice(&body.0);
    }

    fn try_read(buffer: &mut &[u8]) -> Result<Self> {
        check_remaining(buffer, 4)?;
        let length = usize::try_from(buffer.get_i32())?;
        check_remaining(buffer, length)?;
        Ok(Self(buffer.copy_to_bytes(length)))
    }
}

/// A message's properties. They are encoded like a `HashMap`, in the core's order.
pub(crate) struct Properties(pub(crate) Vec<(String, String)>);

// SAFETY: the encoding is that of a `HashMap<String, String>`, and so is the type announced to the generator.
unsafe impl FfiConverter<UniFfiTag> for Properties {
    uniffi::ffi_converter_rust_buffer_lift_and_lower!(UniFfiTag);

    const TYPE_ID_META: MetadataBuffer = <HashMap<String, String> as TypeId<UniFfiTag>>::TYPE_ID_META;

    fn write(properties: Self, buffer: &mut Vec<u8>) {
        buffer.put_i32(properties.0.len() as i32);
        for (name, value) in properties.0 {
            <String as FfiConverter<UniFfiTag>>::write(name, buffer);
            <String as FfiConverter<UniFfiTag>>::write(value, buffer);
        }
    }

    fn try_read(buffer: &mut &[u8]) -> Result<Self> {
        check_remaining(buffer, 4)?;
        let count = usize::try_from(buffer.get_i32())?;
        let mut string = || <String as FfiConverter<UniFfiTag>>::try_read(buffer);
        (0..count).map(|_| Ok((string()?, string()?))).collect::<Result<_>>().map(Self)
    }
}

uniffi::derive_ffi_traits!(local Body);
uniffi::derive_ffi_traits!(local Properties);

#[cfg(test)]
mod tests {
    use uniffi::{Lift, Lower};

    use super::*;

    fn encode<T: Lower<UniFfiTag>>(value: T) -> Vec<u8> {
        let mut buffer = Vec::new();
        T::write(value, &mut buffer);
        buffer
    }

    fn read<T: Lift<UniFfiTag>>(mut buffer: &[u8]) -> Result<T> {
        T::try_read(&mut buffer)
    }

    #[test]
    fn a_body_is_encoded_as_its_announced_type() {
        let bytes = encode(vec![0_u8, 1, 255]);
        assert_eq!(encode(Body(Bytes::from_static(&[0, 1, 255]))), bytes);
        assert_eq!(read::<Body>(&bytes).unwrap().0, [0, 1, 255][..]);
        assert!(read::<Body>(&bytes[..5]).is_err());
        assert!(read::<Body>(&(-1_i32).to_be_bytes()).is_err());
    }

    #[test]
    fn properties_are_encoded_as_their_announced_type() {
        let pairs = vec![("b".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        let bytes = encode(Properties(pairs.clone()));
        assert_eq!(read::<HashMap<String, String>>(&bytes).unwrap(), pairs.iter().cloned().collect());
        assert_eq!(read::<Properties>(&bytes).unwrap().0, pairs);
        assert!(read::<Properties>(&bytes[..9]).is_err());
    }
}
