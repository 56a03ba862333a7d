//! Element types as Rust types.

use half::{bf16, f16};
use syncline_codecs::float::{F8E4M3, F8E5M2};

use super::DType;

/// A Rust type whose values can be communicated and reduced. Sealed: one per [`DType`].
pub trait Element: sealed::Sealed + bytemuck::Pod + Send + Sync {
    /// Which element type it is.
    const DTYPE: DType;
}

mod sealed {
    /// Keeps [`super::Element`] to the types the kernels know.
    pub trait Sealed {}
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {
        $(
            impl sealed::Sealed for $type {}
            impl Element for $type {
                const DTYPE: DType = DType::$dtype;
            }
        )*

        #[cfg(test)]
        #[test]
        fn every_dtype_has_its_element_of_the_same_size() {
            let elements = [$((DType::$dtype, size_of::<$type>())),*];
            assert_eq!(elements.map(|(dtype, _)| dtype), DType::ALL);
            for (dtype, size) in elements {
                assert_eq!(size, dtype.size(), "{}", dtype.name());
            }
        }
    };
}

elements! {
    i8 => I8,
    u8 => U8,
    i32 => I32,
    u32 => U32,
    i64 => I64,
    u64 => U64,
    f16 => F16,
    bf16 => BF16,
    f32 => F32,
    f64 => F64,
    F8E4M3 => F8E4M3,
    F8E5M2 => F8E5M2,
}
