//! What the codecs' tests share: seeded numbers, tensors like those of training, and the inputs
//! that codecs elsewhere were caught by.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// In `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }
}

/// A tensor like a gradient: layers of different scale, heavier tails than a normal
/// distribution, and rows of zeros where a unit was inactive.
pub(crate) fn gradient(elements: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    let mut values = Vec::with_capacity(elements);
    while values.len() < elements {
        let scale = (random.normal() * 1.5 - 5.0).exp();
        for _ in 0..20 {
            let row = if random.unit() < 0.2 { 0.0 } else { scale * random.normal().exp() };
            let count = 61.min(elements - values.len());
            values.extend((0..count).map(|_| (row * random.normal()) as f32 + 0.0));
        }
    }
    values
}

/// Tensors that break careless codecs, each with a name.
pub(crate) fn adversarial() -> Vec<(&'static str, Vec<f32>)> {
    let with = |i: usize, value: f32| {
        let mut values = gradient(100, 9);
        values[i] = value;
        values
    };
    let every = |count: usize, of: &dyn Fn(usize) -> f32| (0..count).map(of).collect::<Vec<_>>();
    let mut cases = vec![
        ("zeros", vec![0.0; 100]),
        ("negative zeros", vec![-0.0; 100]),
        ("constant", vec![0.1; 100]),
        ("one hot", every(100, &|i| if i == 40 { -3.5 } else { 0.0 })),
        ("alternating", every(100, &|i| if i % 2 == 0 { 1.0 } else { -1.0 })),
        ("half steps", every(255, &|i| (i as f32 - 127.0) + 0.5)),
        ("half steps of 7", every(100, &|i| ((i % 15) as f32 - 7.0) / 7.0 + 0.5 / 7.0)),
        ("both ends", every(64, &|i| [f32::MAX, -f32::MAX, 1.0, -1.0][i % 4])),
        ("1e38", every(70, &|i| 1e38 * ((i % 7) as f32 - 3.0))),
        ("subnormals", every(200, &|i| f32::from_bits(i as u32 * 3))),
        ("smallest normals", every(99, &|i| f32::MIN_POSITIVE * (i as f32 - 50.0))),
        ("subnormal among normal", with(3, 1e-40)),
        ("nan", with(17, f32::NAN)),
        ("nan with payload", with(99, f32::from_bits(0xffa1_2345))),
        ("infinity", with(0, f32::INFINITY)),
        ("minus infinity", with(64, f32::NEG_INFINITY)),
        ("all nan", vec![f32::NAN; 65]),
        ("all special", every(90, &|i| [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 3])),
        ("large after small", every(96, &|i| (i as f32).exp2() * 1e-20)),
    ];
    for length in [0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 4099] {
        cases.push(("length", gradient(length, length as u64)));
    }
    cases
}

/// Compares what a codec makes of inputs with what `codecs/golden/NAME.txt` says: a line per case,
/// its name, the input and the encoding, in hexadecimal. With `SYNCLINE_BLESS` set in the
/// environment, writes that file.
pub(crate) fn golden(name: &str, cases: &[(String, Vec<u8>, Vec<u8>)]) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let line = |(case, input, encoded): &(String, Vec<u8>, Vec<u8>)| {
        format!("{case} {} {}\n", hex(input), hex(encoded))
    };
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    let path = path.with_extension("txt");
    if std::env::var_os("SYNCLINE_BLESS").is_some() {
        let text: String = cases.iter().map(line).collect();
        std::fs::write(&path, text).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), cases.len(), "{name}: number of cases");
    for (case, want) in cases.iter().zip(text.split_inclusive('\n')) {
        assert!(line(case) == want, "{name}: {} differs", case.0);
    }
}
