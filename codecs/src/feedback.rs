//! Error feedback: what a lossy codec takes from a tensor in one step is added to the tensor of
//! the next, so that over many steps nothing is lost (Seide et al., Interspeech 2014; Karimireddy
//! et al., ICML 2019).
//!
//! With x_t the true tensors, e_t the state, and y_t what the codec made of x_t + e_{t-1}:
//! e_t = x_t + e_{t-1} - y_t, hence Σ (x - y) = e_T: after any number of steps, what was applied
//! differs from the truth by one step's error. The rounding of x_t + e_{t-1} to f32 is an error
//! too, and is kept in the state like the codec's (Knuth's two-sum), so that the sum does not drift
//! by it either.
//!
//! ```
//! use syncline_codecs::feedback::ErrorFeedback;
//!
//! let mut feedback = ErrorFeedback::new(3);
//! let (mut sent, mut applied) = ([0.0; 3], [0.0; 3]);
//! for _ in 0..1000 {
//!     feedback.compensate(&[0.3, -0.2, 1.0], &mut sent)?;
//!     let decoded = sent.map(f32::round);
//!     feedback.record(&sent, &decoded)?;
//!     (0..3).for_each(|i| applied[i] += f64::from(decoded[i]));
//! }
//! assert!((applied[0] - 300.0).abs() <= 0.6 && (applied[1] + 200.0).abs() <= 0.6);
//! # Ok::<(), syncline_codecs::feedback::FeedbackError>(())
//! ```

use crate::error::{DecodeError, corrupt, truncated};
use crate::float::environment::DefaultEnvironment;
use crate::lanes::get;

/// The first bytes of a saved state, and its version.
const MAGIC: [u8; 4] = *b"SLEF";
const VERSION: u32 = 1;
/// Bytes before the residuals: magic, version, elements, checksum of them, and of the state.
const HEADER: usize = 24;

/// Why a tensor and a state do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedbackError {
    /// The slices have other lengths than the state. A state belongs to one tensor: keep one for
    /// each, or reset it when the tensor changes.
    #[error("the error feedback state is for {state} elements, and {what} has {found}")]
    Shape {
        /// Elements of the state.
        state: usize,
        /// Which slice.
        what: &'static str,
        /// Its elements.
        found: usize,
    },
    /// `compensate` twice without `record`, or `record` without `compensate`.
    #[error("error feedback: {0}")]
    Order(&'static str),
}

/// What one tensor is still owed.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorFeedback {
    /// Between steps what is owed; within a step what the addition rounded away.
    residuals: Vec<f32>,
    within_step: bool,
}

impl ErrorFeedback {
    /// The state of a tensor of `elements` elements that is owed nothing.
    pub fn new(elements: usize) -> Self {
        Self { residuals: vec![0.0; elements], within_step: false }
    }

    /// What each element is owed; within a step what is owed apart from that step.
    pub fn residuals(&self) -> &[f32] {
        &self.residuals
    }

    /// Forgets what is owed, and that a step has begun.
    pub fn reset(&mut self) {
        self.residuals.fill(0.0);
        self.within_step = false;
    }

    /// Begins a step: `out` = `data` and what is owed. Encode `out`.
    ///
    /// # Errors
    /// A length differs from the state's, or the step before was not recorded. Nothing is changed.
    pub fn compensate(&mut self, data: &[f32], out: &mut [f32]) -> Result<(), FeedbackError> {
        self.check("the tensor", data.len())?;
        self.check("the output", out.len())?;
        if self.within_step {
            return Err(FeedbackError::Order(
                "a step was begun and not recorded; call record, or reset after a failed step",
            ));
        }
        let _environment = DefaultEnvironment::enter();
        for ((residual, x), out) in self.residuals.iter_mut().zip(data).zip(out) {
            let sum = *x + *residual;
            // What the addition rounded away, exactly.
            let part = sum - *x;
            let lost = (*x - (sum - part)) + (*residual - part);
            *residual = if sum.is_finite() && lost.is_finite() { lost } else { 0.0 };
            *out = sum;
        }
        self.within_step = true;
        Ok(())
    }

    /// Ends a step: owed is now what `sent`, the output of [`Self::compensate`], has beyond
    /// `decoded`, what the receivers make of it. An element that was or became NaN or infinite is
    /// owed nothing, so that one bad step does not spoil all later ones.
    ///
    /// # Errors
    /// A length differs from the state's, or no step was begun. Nothing is changed.
    pub fn record(&mut self, sent: &[f32], decoded: &[f32]) -> Result<(), FeedbackError> {
        self.check("what was sent", sent.len())?;
        self.check("what was decoded", decoded.len())?;
        if !self.within_step {
            return Err(FeedbackError::Order("no step was begun; call compensate before record"));
        }
        let _environment = DefaultEnvironment::enter();
        for ((residual, sent), decoded) in self.residuals.iter_mut().zip(sent).zip(decoded) {
            let owed = (sent - decoded) + *residual;
            *residual = if owed.is_finite() { owed } else { 0.0 };
        }
        self.within_step = false;
        Ok(())
    }

    fn check(&self, what: &'static str, found: usize) -> Result<(), FeedbackError> {
        let state = self.residuals.len();
        if found == state { Ok(()) } else { Err(FeedbackError::Shape { state, what, found }) }
    }

    /// Bytes [`Self::save`] writes.
    pub fn saved_bytes(&self) -> usize {
        HEADER + 4 * self.residuals.len()
    }

    /// The state as bytes, for a checkpoint. Layout, little-endian: `SLEF`, version 1 (u32),
    /// elements (u64), 1 within a step and 0 otherwise (u32), CRC-32 of all other bytes, the
    /// residuals (f32).
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.saved_bytes());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.residuals.len() as u64).to_le_bytes());
        bytes.extend(u32::from(self.within_step).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.residuals.iter().flat_map(|x| x.to_le_bytes()));
        let sum = checksum(&bytes);
        bytes[HEADER - 4..HEADER].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The state that was saved as `bytes`.
    ///
    /// # Errors
    /// They are not a whole and undamaged state of a version this library knows. No memory is
    /// taken before their length was compared with the elements they announce.
    pub fn restore(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = || truncated(HEADER, bytes.len());
        let word = |at| get(bytes, at).map(u32::from_le_bytes).ok_or_else(short);
        if bytes.get(..4).ok_or_else(short)? != MAGIC {
            return Err(corrupt(0, "this is no saved error feedback"));
        }
        let found = word(4)?;
        if found != VERSION {
            return Err(DecodeError::UnsupportedVersion { found, supported: VERSION });
        }
        let elements = get(bytes, 8).map(u64::from_le_bytes).ok_or_else(short)?;
        let (flag, sum) = (word(16)?, word(20)?);
        let needed =
            usize::try_from(elements).ok().and_then(|n| n.checked_mul(4)?.checked_add(HEADER));
        match needed {
            Some(needed) if needed == bytes.len() => {}
            Some(needed) if needed > bytes.len() => return Err(truncated(needed, bytes.len())),
            _ => return Err(corrupt(8, "the number of elements is not that of the bytes")),
        }
        if flag > 1 || sum != checksum(bytes) {
            return Err(corrupt(HEADER - 4, "the checksum does not fit"));
        }
        let residuals = bytes[HEADER..].as_chunks().0.iter().map(|x| f32::from_le_bytes(*x));
        Ok(Self { residuals: residuals.collect(), within_step: flag == 1 })
    }
}

/// CRC-32 of everything but the place of the checksum.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..HEADER - 4]);
    hasher.update(&bytes[HEADER..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Block;
    use crate::descriptor::BlockBits;
    use crate::testing::{Random, gradient};

    /// 1000 steps through `block4`: without feedback the error grows, with it stays one step's.
    #[test]
    fn a_thousand_steps_lose_no_more_than_one() {
        const ELEMENTS: usize = 256;
        let block = Block::new(BlockBits::Four, 32).unwrap();
        let mut bytes = vec![0; block.encoded_bytes(ELEMENTS)];
        let mut through = |x: &[f32]| {
            let mut y = vec![0.0; ELEMENTS];
            block.encode(x, &mut bytes).unwrap();
            block.decode(&bytes, &mut y).unwrap();
            y
        };
        let base: Vec<f32> = gradient(ELEMENTS, 1).iter().map(|x| x * 100.0).collect();
        let mut random = Random(2);
        let mut feedback = ErrorFeedback::new(ELEMENTS);
        let (mut owed, mut drift) = (vec![0.0_f64; ELEMENTS], vec![0.0_f64; ELEMENTS]);
        let (mut sent, mut error_max) = (vec![0.0; ELEMENTS], 0.0_f64);
        for _ in 0..1000 {
            let x: Vec<f32> =
                base.iter().map(|x| x * (1.0 + 0.1 * random.normal() as f32)).collect();
            feedback.compensate(&x, &mut sent).unwrap();
            let y = through(&sent);
            feedback.record(&sent, &y).unwrap();
            let plain = through(&x);
            for i in 0..ELEMENTS {
                error_max = error_max.max(f64::from((sent[i] - y[i]).abs()));
                owed[i] += f64::from(x[i]) - f64::from(y[i]);
                drift[i] += f64::from(x[i]) - f64::from(plain[i]);
            }
        }
        let largest = |of: &[f64]| of.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        assert!(largest(&owed) <= error_max * 1.000_01, "{} of {error_max}", largest(&owed));
        assert!(largest(&drift) > 50.0 * error_max, "{} of {error_max}", largest(&drift));
        for (owed, residual) in owed.iter().zip(feedback.residuals()) {
            assert!((owed - f64::from(*residual)).abs() < 1e-6 * error_max);
        }
    }

    #[test]
    fn what_is_no_number_is_forgotten() {
        let mut feedback = ErrorFeedback::new(4);
        let x = [f32::NAN, f32::INFINITY, f32::MAX, 1.0];
        let mut sent = [0.0; 4];
        feedback.compensate(&x, &mut sent).unwrap();
        feedback.record(&sent, &[f32::NAN, f32::INFINITY, -f32::MAX, 0.75]).unwrap();
        assert_eq!(feedback.residuals(), [0.0, 0.0, 0.0, 0.25]);
    }

    #[test]
    fn shapes_and_order_are_checked() {
        let mut feedback = ErrorFeedback::new(2);
        let mut out = [0.0; 2];
        let shape = |what, found| Err(FeedbackError::Shape { state: 2, what, found });
        assert_eq!(feedback.compensate(&[0.0; 3], &mut out), shape("the tensor", 3));
        assert_eq!(feedback.compensate(&[0.0; 2], &mut [0.0]), shape("the output", 1));
        assert!(matches!(feedback.record(&out, &out), Err(FeedbackError::Order(_))));
        feedback.compensate(&[1.0, 2.0], &mut out).unwrap();
        let twice = feedback.compensate(&[1.0, 2.0], &mut [0.0; 2]);
        assert!(matches!(twice, Err(FeedbackError::Order(_))));
        assert_eq!(feedback.record(&out, &[0.0]), shape("what was decoded", 1));
        feedback.record(&out, &[0.5, 2.0]).unwrap();
        assert_eq!(feedback.residuals(), [0.5, 0.0]);
        feedback.reset();
        assert_eq!(feedback, ErrorFeedback::new(2));
    }

    #[test]
    fn it_survives_as_bytes_and_damage_is_refused() {
        for elements in [0, 1, 17] {
            let mut feedback = ErrorFeedback::new(elements);
            let mut sent = vec![0.0; elements];
            feedback.compensate(&gradient(elements, 4), &mut sent).unwrap();
            let within = feedback.clone();
            feedback.record(&sent, &vec![0.01; elements]).unwrap();
            for state in [within, feedback] {
                let bytes = state.save();
                assert_eq!(bytes.len(), state.saved_bytes());
                assert_eq!(ErrorFeedback::restore(&bytes).unwrap(), state);
                for cut in 0..bytes.len() {
                    assert!(ErrorFeedback::restore(&bytes[..cut]).is_err());
                }
                assert!(ErrorFeedback::restore(&[bytes.as_slice(), &[0]].concat()).is_err());
                for bit in 0..8 * bytes.len() {
                    let mut damaged = bytes.clone();
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    assert!(ErrorFeedback::restore(&damaged).is_err(), "bit {bit}");
                }
            }
        }
        let mut newer = ErrorFeedback::new(1).save();
        newer[4] = 2;
        let want = DecodeError::UnsupportedVersion { found: 2, supported: 1 };
        assert_eq!(ErrorFeedback::restore(&newer), Err(want));
    }
}
