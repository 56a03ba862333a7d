//! Element types, operators, collectives and transports as numbers.

use comm::communicator::TransportChoice;
use comm::reduce::{DType, ReduceOp};
use comm::schedule::Collective;

use crate::options::syncline_call_options_t;
use crate::status::{Failure, Outcome};

/// A rank of a communicator, counted from 0.
pub type syncline_rank_t = u32;

/// The type of one element of a buffer: one of enum syncline_dtype.
pub type syncline_dtype_t = i32;

/// The type of one element of a buffer. Buffers need no particular alignment.
#[repr(C)]
pub enum syncline_dtype {
    /// Signed 8-bit integer.
    SYNCLINE_I8 = 0,
    /// Unsigned 8-bit integer.
    SYNCLINE_U8 = 1,
    /// Signed 32-bit integer.
    SYNCLINE_I32 = 2,
    /// Unsigned 32-bit integer.
    SYNCLINE_U32 = 3,
    /// Signed 64-bit integer.
    SYNCLINE_I64 = 4,
    /// Unsigned 64-bit integer.
    SYNCLINE_U64 = 5,
    /// IEEE 754 binary16.
    SYNCLINE_F16 = 6,
    /// bfloat16.
    SYNCLINE_BF16 = 7,
    /// IEEE 754 binary32.
    SYNCLINE_F32 = 8,
    /// IEEE 754 binary64.
    SYNCLINE_F64 = 9,
    /// OCP 8-bit float, 4 exponent bits, no infinity.
    SYNCLINE_F8E4M3 = 10,
    /// OCP 8-bit float, 5 exponent bits.
    SYNCLINE_F8E5M2 = 11,
}

/// How contributions are combined: one of enum syncline_op.
pub type syncline_op_t = i32;

/// How contributions are combined, element by element. Partial results of 8- and 16-bit floats
/// are kept in 32 bits and rounded once. Every rank gets the same bits.
#[repr(C)]
pub enum syncline_op {
    /// Sum; integers wrap.
    SYNCLINE_SUM = 0,
    /// Product; integers wrap.
    SYNCLINE_PROD = 1,
    /// Smallest; NaN if any is NaN.
    SYNCLINE_MIN = 2,
    /// Largest; NaN if any is NaN.
    SYNCLINE_MAX = 3,
    /// Sum divided by the number of ranks; integers truncate toward zero. Not for scans.
    SYNCLINE_AVG = 4,
    /// Sum of contributions, each first multiplied by its own rank's factor:
    /// syncline_call_options_t.premul_factor. Floats only.
    SYNCLINE_PREMUL_SUM = 5,
    /// Bitwise and. Integers only.
    SYNCLINE_BIT_AND = 6,
    /// Bitwise or. Integers only.
    SYNCLINE_BIT_OR = 7,
    /// Bitwise exclusive or. Integers only.
    SYNCLINE_BIT_XOR = 8,
}

/// Which wires to use: one of enum syncline_transport.
pub type syncline_transport_t = i32;

/// Which wires to use.
#[repr(C)]
pub enum syncline_transport {
    /// Shared memory inside a host, TCP between hosts.
    SYNCLINE_TRANSPORT_AUTO = 0,
    /// Shared memory only; ranks on several hosts are an error.
    SYNCLINE_TRANSPORT_SHM = 1,
    /// TCP only, also inside a host.
    SYNCLINE_TRANSPORT_TCP = 2,
}

/// A collective, for syncline_explain: one of enum syncline_collective.
pub type syncline_collective_t = i32;

/// A collective, for syncline_explain.
#[repr(C)]
pub enum syncline_collective {
    /// syncline_all_reduce
    SYNCLINE_ALL_REDUCE = 0,
    /// syncline_reduce_scatter
    SYNCLINE_REDUCE_SCATTER = 1,
    /// syncline_all_gather
    SYNCLINE_ALL_GATHER = 2,
    /// syncline_broadcast
    SYNCLINE_BROADCAST = 3,
    /// syncline_reduce
    SYNCLINE_REDUCE = 4,
    /// syncline_gather
    SYNCLINE_GATHER = 5,
    /// syncline_scatter
    SYNCLINE_SCATTER = 6,
    /// syncline_all_to_all
    SYNCLINE_ALL_TO_ALL = 7,
    /// syncline_barrier
    SYNCLINE_BARRIER = 8,
    /// syncline_scan
    SYNCLINE_SCAN = 9,
    /// syncline_exscan
    SYNCLINE_EXSCAN = 10,
}

/// The entry of `all` with this number.
fn pick<T: Copy>(all: &[T], number: i32, what: &str, names: impl Fn(T) -> String) -> Outcome<T> {
    let found = usize::try_from(number).ok().and_then(|index| all.get(index));
    found.copied().ok_or_else(|| {
        let known: Vec<String> =
            all.iter().enumerate().map(|(i, &x)| format!("{i} {}", names(x))).collect();
        Failure::argument(format!("{what} {number} is unknown; there are {}", known.join(", ")))
    })
}

pub(crate) fn dtype(number: syncline_dtype_t) -> Outcome<DType> {
    pick(&DType::ALL, number, "dtype", |dtype| dtype.name().to_owned())
}

pub(crate) fn collective(number: syncline_collective_t) -> Outcome<Collective> {
    pick(&Collective::ALL, number, "collective", |collective| collective.name().to_owned())
}

pub(crate) fn transport(number: syncline_transport_t) -> Outcome<TransportChoice> {
    let all = [TransportChoice::Auto, TransportChoice::Shm, TransportChoice::Tcp];
    pick(&all, number, "transport", |choice| choice.name().to_owned())
}

/// Every operator, in the order of their numbers.
const OPS: [ReduceOp; 9] = [
    ReduceOp::Sum,
    ReduceOp::Prod,
    ReduceOp::Min,
    ReduceOp::Max,
    ReduceOp::Avg,
    ReduceOp::PreMulSum(1.0),
    ReduceOp::BitAnd,
    ReduceOp::BitOr,
    ReduceOp::BitXor,
];

pub(crate) fn op(
    number: syncline_op_t,
    options: Option<&syncline_call_options_t>,
) -> Outcome<ReduceOp> {
    match (op_without_factor(number)?, options) {
        (ReduceOp::PreMulSum(_), None) => Err(Failure::argument(
            "op premul_sum needs options with this rank's premul_factor; they are null",
        )),
        (ReduceOp::PreMulSum(_), Some(options)) => Ok(ReduceOp::PreMulSum(options.premul_factor)),
        (op, _) => Ok(op),
    }
}

/// The operator; a premul_sum multiplies by 1.
pub(crate) fn op_without_factor(number: syncline_op_t) -> Outcome<ReduceOp> {
    pick(&OPS, number, "op", |op| op.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_collective as C;
    use syncline_dtype as D;
    use syncline_op as O;

    #[test]
    fn numbers_mean_what_the_header_says() {
        assert_eq!(dtype(D::SYNCLINE_I8 as i32).unwrap(), DType::I8);
        assert_eq!(dtype(D::SYNCLINE_U64 as i32).unwrap(), DType::U64);
        assert_eq!(dtype(D::SYNCLINE_F16 as i32).unwrap(), DType::F16);
        assert_eq!(dtype(D::SYNCLINE_BF16 as i32).unwrap(), DType::BF16);
        assert_eq!(dtype(D::SYNCLINE_F32 as i32).unwrap(), DType::F32);
        assert_eq!(dtype(D::SYNCLINE_F8E5M2 as i32).unwrap(), DType::F8E5M2);
        assert_eq!(op(O::SYNCLINE_SUM as i32, None).unwrap(), ReduceOp::Sum);
        assert_eq!(op(O::SYNCLINE_MAX as i32, None).unwrap(), ReduceOp::Max);
        assert_eq!(op(O::SYNCLINE_AVG as i32, None).unwrap(), ReduceOp::Avg);
        assert_eq!(op(O::SYNCLINE_BIT_XOR as i32, None).unwrap(), ReduceOp::BitXor);
        let name = |c: C| collective(c as i32).unwrap().name();
        assert_eq!(name(C::SYNCLINE_ALL_REDUCE), "all_reduce");
        assert_eq!(name(C::SYNCLINE_GATHER), "gather");
        assert_eq!(name(C::SYNCLINE_ALL_TO_ALL), "all_to_all");
        assert_eq!(name(C::SYNCLINE_EXSCAN), "exscan");
    }

    #[test]
    fn other_numbers_are_refused_with_a_list() {
        let text = dtype(12).unwrap_err().text;
        assert!(text.starts_with("dtype 12 is unknown; there are 0 i8, 1 u8,"), "{text}");
        assert!(op(-1, None).unwrap_err().text.contains("op -1 is unknown"));
        assert!(transport(3).unwrap_err().text.contains("0 auto, 1 shm, 2 tcp"));
        assert!(collective(99).is_err());
        let premul = op(O::SYNCLINE_PREMUL_SUM as i32, None).unwrap_err().text;
        assert!(premul.contains("premul_factor"), "{premul}");
    }
}
