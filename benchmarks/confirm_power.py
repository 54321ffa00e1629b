"""How often `nas confirm` claims a difference, on simulated scores whose truth is known.

    python -m benchmarks.confirm_power

Seconds of one core; prints the table of docs/confirm.md. The simulation is that of tests.test_comparison.py.
"""

from tests.test_comparison import claims

SEEDS = (3, 5, 8, 9, 10, 12, 15)


def main() -> None:
    """Print both tables."""
    print("| seeds | no difference, 1 found | no difference, 3 found | 1 SD, 1 found | 1 SD, 3 found | 2 SD, 3 found |")
    print("|---|---|---|---|---|---|")
    for seeds in SEEDS:
        shares = [claims(effect, seeds=seeds, candidates=k) for effect, k in ((0, 1), (0, 3), (1, 1), (1, 3), (2, 3))]
        print(f"| {seeds} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")
    unequal = {spread: claims(0, seeds=5, candidates=3, spreads=spread) for spread in (0.5, 2, 4)}
    print("plain network spreads otherwise than the rest, no difference, 5 seeds, 3 found:")
    print(", ".join(f"{spread} times: {100 * share:.1f} %" for spread, share in unequal.items()))


if __name__ == "__main__":
    main()
