use super::{
    super::testing::{Jitter, speech},
    *,
};

const MAX_DELAY: usize = 48_000;

fn delayed(samples: &[f32], by: usize) -> Vec<f32> {
    let mut delayed = vec![0.0; by];
    delayed.extend_from_slice(samples);
    delayed
}

fn noise(seed: u64, len: usize, level: f64) -> Vec<f32> {
    let mut jitter = Jitter::new(seed, 2.0 * level);
    (0..len).map(|_| (jitter.next() - level) as f32).collect()
}

#[test]
fn a_delay_is_found_to_the_sample() {
    let sent = speech(1, 5);
    for delay in [0, 1, 777, 14_400, 47_000] {
        let alignment = align(&sent, &delayed(&sent, delay), MAX_DELAY).unwrap();
        assert_eq!(alignment.delay_samples, delay as i64);
        assert!(alignment.correlation > 0.999);
        assert!((alignment.found_fraction() - 1.0).abs() < 1e-9);
        let millis = delay as f64 / 48.0;
        for quantile in [0.0, 0.5, 0.95, 1.0] {
            assert!((alignment.delay_millis(quantile).unwrap() - millis).abs() < 0.03);
        }
    }
}

#[test]
fn a_delay_that_changes_on_the_way_shows_in_its_quantiles() {
    let sent = speech(2, 6);
    let half = sent.len() / 2;
    let mut received = delayed(&sent[..half], 2400);
    received.extend(vec![0.0; 4800]);
    received.extend_from_slice(&sent[half..]);
    let alignment = align(&sent, &received, MAX_DELAY).unwrap();
    assert!((alignment.delay_millis(0.1).unwrap() - 50.0).abs() < 0.1);
    assert!((alignment.delay_millis(0.95).unwrap() - 150.0).abs() < 0.1);
}

#[test]
fn level_noise_and_a_cut_beginning_do_not_hide_the_delay() {
    let sent = speech(3, 5);
    let mut received: Vec<f32> = delayed(&sent, 4321).iter().map(|s| 0.2 * s).collect();
    received[..24_000].fill(0.0);
    for (sample, noise) in received.iter_mut().zip(noise(9, sent.len(), 0.005)) {
        *sample += noise;
    }
    let alignment = align(&sent, &received, MAX_DELAY).unwrap();
    assert_eq!(alignment.delay_samples, 4321);
    assert!(alignment.found_fraction() > 0.7);
}

#[test]
fn strangers_silence_and_nothing_are_not_aligned() {
    let sent = speech(4, 5);
    assert_eq!(align(&sent, &speech(5, 5), MAX_DELAY), None);
    assert_eq!(align(&sent, &noise(1, sent.len(), 0.3), MAX_DELAY), None);
    assert_eq!(align(&sent, &vec![0.0; sent.len()], MAX_DELAY), None);
    assert_eq!(align(&sent, &[], MAX_DELAY), None);
    assert_eq!(align(&[], &sent, MAX_DELAY), None);
}

#[test]
fn the_score_is_five_for_the_same_and_falls_with_each_damage() {
    let sent = speech(6, 8);
    let score = |received: &[f32]| score(&sent, received, MAX_DELAY).unwrap();

    let same = score(&delayed(&sent, 5000));
    assert!(same > 4.99, "the same: {same:.2}");
    let quieter: Vec<f32> = sent.iter().map(|s| 0.3 * s).collect();
    let quieter = score(&quieter);
    assert!(quieter > 4.95, "a lower volume is no damage: {quieter:.2}");

    let with_noise = |level: f64| {
        let noise = noise(3, sent.len(), level);
        let received: Vec<f32> = sent.iter().zip(noise).map(|(s, n)| s + n).collect();
        score(&received)
    };
    let (little, much) = (with_noise(0.002), with_noise(0.1));
    assert!(
        same > little && little > much + 0.3,
        "noise: {little:.2}, {much:.2}"
    );

    let with_gaps = |every: usize| {
        let mut received = sent.clone();
        for (n, frame) in received.chunks_mut(960).enumerate() {
            if n % every == 0 {
                frame.fill(0.0);
            }
        }
        score(&received)
    };
    let (few, many) = (with_gaps(20), with_gaps(3));
    assert!(
        same > few + 0.1 && few > many + 0.5,
        "gaps: {few:.2}, {many:.2}"
    );
}

#[test]
fn the_score_of_strangers_and_silence_is_at_the_bottom() {
    let sent = speech(7, 5);
    for received in [
        speech(8, 5),
        noise(1, sent.len(), 0.3),
        vec![0.0; sent.len()],
        Vec::new(),
    ] {
        let score = score(&sent, &received, MAX_DELAY).unwrap();
        assert!(score < 1.3, "{score:.2}");
    }
    assert_eq!(score(&vec![0.0; 48_000], &sent, MAX_DELAY), None);
}
