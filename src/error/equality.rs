//! Equality of errors. Floats are compared by their bits, so that an error that holds a NaN equals itself.

use super::Error;

/// Compares two errors field by field. Each line names a variant, its fields, and, after `bits`, its float fields.
macro_rules! equal {
    ($one:expr, $other:expr; $(
        $(#[$attribute:meta])* $Variant:ident { $($field:ident),* } $(bits { $($float:ident),* })?;
    )*) => {
        match $one {
            $($(#[$attribute])* Error::$Variant { $($field,)* $($($float,)*)? } => {
                let one = ($($field,)* $($($float.to_bits(),)*)?);
                matches!(
                    $other,
                    Error::$Variant { $($field,)* $($($float,)*)? } if one == ($($field,)* $($($float.to_bits(),)*)?)
                )
            })*
            #[cfg(feature = "neuron")]
            Error::Neuron(one) => matches!($other, Error::Neuron(other) if one == other),
        }
    };
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        equal! {
            self, other;
            InvalidArgument { op, argument, value, expected, row };
            ShapeMismatch { op, argument, got, expected };
            UnsupportedDType { op, dtype, backend };
            NonFiniteInput { op, part, row, index } bits { value };
            FullyMasked { op, row };
            EmptyInput { op };
            EmptySupport { op, row, vocabulary };
            OutOfMemory { op, what, bytes };
            Diverged { step, what } bits { value };
            Sink { sink, step, reason, source };
            Unsaved { path, reason, source };
            Unavailable { backend, reason };
            Failed { backend, reason, source };
            Framework { framework, source };
            #[cfg(feature = "sharded")]
            Collective { op, rank, reason };
            #[cfg(feature = "sharded")]
            NonFiniteShard { op, row, index, rank } bits { value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::Error;
    use std::error::Error as _;
    use std::io;

    #[test]
    fn an_error_equals_itself_also_with_a_nan() {
        let error = |value| Error::non_finite_input("sample", 1, 2, value);
        assert_eq!(error(f64::NAN), error(f64::NAN));
        assert_ne!(error(f64::NAN), error(f64::INFINITY));
        assert_ne!(error(0.0), error(-0.0));
        assert_ne!(error(1.0), Error::non_finite_input("sample", 1, 3, 1.0));
        assert_eq!(Error::diverged(3, "loss", f64::NAN), Error::diverged(3, "loss", f64::NAN));
        assert_ne!(Error::unavailable("cuda", "x"), Error::failed("cuda", "x"));
    }

    #[test]
    fn the_source_is_the_error_of_the_other_library() {
        let io = || Source::new(io::Error::from(io::ErrorKind::NotFound));
        let error = Error::failed_with("cuda", "no device file", io());
        assert_eq!(error, Error::failed_with("cuda", "no device file", io()));
        assert_ne!(error, Error::failed("cuda", "no device file"));
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::NotFound));
        let framework = Error::framework("candle", io());
        assert!(framework.source().is_some_and(|source| source.is::<io::Error>()));
    }
}
