//! In which order proxies have their turns in a round.

/// Forwards in even rounds, backwards in odd ones, and every second round the first becomes the last: whatever drifts over a round speaks
/// for each of two as often as against him, and nobody always runs after the same neighbour.
pub fn alternating<T>(round: usize, turns: &[T]) -> Vec<&T> {
    let mut order: Vec<&T> = turns.iter().collect();
    if let Some(first) = (round / 2).checked_rem(order.len()) {
        order.rotate_left(first);
    }
    if round % 2 == 1 {
        order.reverse();
    }
    order
}
