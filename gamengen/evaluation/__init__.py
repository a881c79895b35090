"""How good is a learned game? Every metric over any `World`, on held-out episodes, with an interval.

    world, held-out episodes -> parts (raw values, stored) -> figures with intervals -> sections -> report

A metric is a frozen dataclass in a module of its own (its fields are its settings) with the methods of `metric.Metric`:

    name, measures, share      its key in report.json; what it measures (`figures.Measure`); its share of the time
    missing(study)             why it cannot be measured here, as a sentence for the reader; None when it can
    parts(study)               its units of work in an order of which every beginning is a fair sample of all
    measure(study, part)       raw values: one `Sample` a start, `values["<setting>/<measure>"]`
    sections(figures)          what the report shows of it, from the figures alone
    clip(study, sample, path)  what one start looked like, beside the real game (None: nothing to look at)

From Python, on any world and any episodes:

    study = Study(world=world, held_out=Recordings.open("data/breakout", "test"))
    measured = evaluate(study, suite(world, Scale(num_starts=64), Networks()), "runs/breakout/eval")
    measured["next_frame"].figures["4 steps/psnr"]  # Figure(value=..., low=..., high=..., samples=64, episodes=5, ...)

The driver (`run.evaluate`) owns everything else: it stores each part before it begins the next, so that a killed
evaluation continues; divides the time; computes every figure with its sample count and its 95 % interval over episodes
(`figures`: bootstrapped; exact bounds for shares that all episodes agree on; leaving episodes out for `of_samples`),
and shows the best, the median and the worst sample of each metric.

Raw values are sums, (2, ...): what was counted and of how much, so that a figure is the ratio of both sums over all
samples (a PSNR is the dB of the mean squared error, an F1 is 2 TP / (2 TP + FP + FN)). More axes are a curve or a
table. A measure that is no ratio of sums (a Frechet distance) says how it is made of the samples (`of_samples`).
Paths are `setting/measure`, or `setting/measure/what` (such as an object); the measure is the second word.
"""
