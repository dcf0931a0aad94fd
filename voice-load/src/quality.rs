//! What a listener would say about it: an estimate of the mean opinion score by the E-model.
//!
//! ITU-T G.107 (06/2015) with all of its defaults gives `R = 93.2 - Id - Ie,eff`: everything but delay and loss is as in
//! the model's reference call.
//!
//! - `Id = 0.024 d + 0.11 (d - 177.3) H(d - 177.3)`, `d` in ms from mouth to ear: the fit to G.107's delay terms by
//!   R. G. Cole and J. H. Rosenbluth, "Voice over IP performance monitoring", ACM SIGCOMM CCR 31(2), 2001.
//! - `Ie,eff = Ie + (95 - Ie) Ppl / (Ppl / BurstR + Bpl)`, `Ppl` in percent: G.107, equation 7-29. `BurstR` is 1, random
//!   loss.
//! - `MOS = 1 + 0.035 R + R (R - 60) (100 - R) 7e-6`: G.107, Annex B.
//!
//! G.113 has no `Ie` and `Bpl` for Opus. Assumed are 0 and 10: a codec without audible faults whose concealment lies
//! between that of G.711 without any (4.3) and of G.729A (19), both of G.113, Appendix I. Scores are good for comparing
//! runs with each other, not with other people's.

/// Of a call without delay and loss.
const R_DEFAULT: f64 = 93.2;

/// Equipment impairment of the codec; see the module.
const OPUS_IE: f64 = 0.0;

/// Robustness of the codec against loss, in percent; see the module.
const OPUS_BPL: f64 = 10.0;

/// Milliseconds that the ends add: 20 for a frame, 6.5 for the encoder's look-ahead (RFC 6716, section 2), and 20 for a
/// playout buffer that holds one frame. What the network varies by comes on top: see [`mos`].
pub const ENDS_MS: f64 = 46.5;

/// The score, 1 to 4.5, of a call whose playout waits for all but the slowest hundredth of its packets: `delay_ms` is the
/// one-way delay that 99 % of them keep, `loss` the share that never comes, 0 to 1.
pub fn mos(delay_ms: f64, loss: f64) -> f64 {
    let delay = delay_ms.max(0.0) + ENDS_MS;
    let id = 0.024 * delay + 0.11 * (delay - 177.3).max(0.0);
    let percent = loss.clamp(0.0, 1.0) * 100.0;
    let ie = OPUS_IE + (95.0 - OPUS_IE) * percent / (percent + OPUS_BPL);
    from_r(R_DEFAULT - id - ie)
}

fn from_r(r: f64) -> f64 {
    let r = r.clamp(0.0, 100.0);
    // The polynomial dips below 1 for the smallest values.
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_the_models() {
        // G.107: R = 93.2 is a score of 4.41, R = 50 one of 2.58.
        assert!((from_r(93.2) - 4.41).abs() < 0.005);
        assert!((from_r(50.0) - 2.58).abs() < 0.005);
        assert_eq!(from_r(-20.0), 1.0);
        assert_eq!(from_r(100.0), 4.5);
        assert!((4.3..4.41).contains(&mos(0.2, 0.0)));
    }

    #[test]
    fn more_delay_or_loss_never_sounds_better() {
        let delays = (0..1_000).step_by(10).map(f64::from);
        for delay in delays {
            let mut before = f64::INFINITY;
            for loss in 0..=100 {
                let score = mos(delay, f64::from(loss) / 100.0);
                assert!(
                    score <= before && (1.0..=4.5).contains(&score),
                    "{delay} ms, {loss} %"
                );
                assert!(mos(delay + 10.0, f64::from(loss) / 100.0) <= score);
                before = score;
            }
        }
        assert!(mos(1.0, 0.05) < mos(1.0, 0.0) - 0.5);
    }
}
