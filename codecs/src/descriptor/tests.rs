//! Every form the issue of users' guide names, and every way to get one wrong.

use super::*;

fn parsed(text: &str) -> Codec {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    match text.parse::<Codec>() {
        Ok(codec) => panic!("{text} became {codec:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn canonical_forms_come_back_as_they_are() {
    for text in [
        "none",
        "bounded:abs=1e-4",
        "bounded:rms=0.01",
        "bounded:max=1e-3",
        "block8:group=64",
        "block6:group=32",
        "block4:group=256",
        "bf16",
        "fp16",
        "fp8_e4m3",
        "fp8_e5m2",
        "bf16:stochastic",
        "fp8_e5m2:stochastic,seed=18446744073709551615",
        "lossless",
        "topk:0.01",
        "topk:1",
        "threshold:1e-3",
        "filter_sr:rms=0.5,drop=0.25",
        "filter_sr:abs=1e-5,drop=0e0,seed=7",
        "auto:rms=0.01",
        "auto:abs=2.5e7",
    ] {
        assert_eq!(parsed(text).to_string(), text);
        assert_eq!(parsed(&parsed(text).to_string()), parsed(text));
    }
}

#[test]
fn what_is_left_out_has_a_default() {
    assert_eq!(parsed("block8"), parsed("block8:group=64"));
    assert_eq!(parsed("bf16:stochastic"), parsed("bf16:seed=0,stochastic"));
    assert_eq!(parsed("filter_sr:max=0.01"), parsed("filter_sr:max=0.01,drop=0.01,seed=0"));
    assert_eq!(Codec::default(), Codec::None);
}

#[test]
fn errors_name_the_mistake_and_what_is_possible() {
    for (text, words) in [
        ("", "there are none, bounded:abs"),
        ("zip", "`zip`; there are none, bounded:abs=1e-4"),
        ("Bounded:abs=1", "`Bounded`"),
        ("bounded", "needs one bound: abs=, rms= or max="),
        ("bounded:", "no parameter ``"),
        ("bounded:0.01", "no parameter `0.01`"),
        ("bounded:eps=0.01", "no parameter `eps=0.01`; it takes one bound"),
        ("bounded:abs=0", "abs is `0`; it must be a number above zero"),
        ("bounded:abs=-1e-4", "abs is `-1e-4`"),
        ("bounded:rms=nan", "rms is `nan`"),
        ("bounded:rms=NaN", "rms is `NaN`"),
        ("bounded:max=inf", "max is `inf`"),
        ("bounded:abs=1e-39", "between 1.2e-38 and 8.5e37"),
        ("bounded:abs=1e38", "between 1.2e-38 and 8.5e37"),
        ("bounded:abs=0,01", "abs is `0`"),
        ("bounded:abs=ten", "abs is `ten`"),
        ("bounded:abs=1,abs=2", "`abs` is given more than once"),
        ("bounded:abs=1,rms=2", "`rms` is given more than once"),
        ("auto", "`auto` needs one bound"),
        ("auto:rms=0", "`auto`: rms is `0`"),
        ("block8:group=48", "group is `48`; it must be 32, 64, 128 or 256"),
        ("block8:64", "no parameter `64`"),
        ("block5", "`block5`"),
        ("bf16:up", "no parameter `up`; it takes nothing, or `stochastic`"),
        ("bf16:seed=1", "no parameter `seed=1`"),
        ("bf16:stochastic,seed=-1", "seed is `-1`"),
        ("bf16:stochastic,seed=1,seed=2", "`seed` is given more than once"),
        ("lossless:9", "no parameter `9`; it takes no parameters"),
        ("none:", "no parameter ``"),
        ("topk", "needs the share"),
        ("topk:0", "the share is `0`"),
        ("topk:1.5", "the share is `1.5`"),
        ("topk:NaN", "the share is `NaN`"),
        ("topk:0.1,0.2", "no parameter `0.2`"),
        ("threshold:-1", "the magnitude is `-1`"),
        ("threshold:inf", "the magnitude is `inf`"),
        ("filter_sr", "needs the step"),
        ("filter_sr:rms=0.1,drop=-1", "drop is `-1`"),
        ("filter_sr:rms=0.1,drop", "no parameter `drop`"),
    ] {
        let error = refused(text);
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn bounds_are_checked_without_text_too() {
    for value in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Bound::new(BoundMode::Rms, value).is_err(), "{value}");
    }
    assert!(Bound::new(BoundMode::Abs, 1e-40).is_err());
    assert_eq!(Bound::new(BoundMode::Rms, 1e-40).unwrap().value(), 1e-40);
}
