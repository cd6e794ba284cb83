r"""Other people's models and samplers: a pipeline of `diffusers`, a sampler of k-diffusion, a denoiser of azula.

Each module takes the other library's objects by their documented interface and imports nothing of it. A sampler of
nobody's is watched by handing each step to the detectors:

.. code-block:: python

    import torch
    from intermode import Fraction, Hal
    from intermode.samplers import Step

    noise_levels = torch.linspace(5.0, 0.05, 40).tolist()
    x = torch.randn(8, 2) * noise_levels[0]
    detector = Hal(window=Fraction(0.5, 1))
    detector.start(x.shape)
    for index, (sigma, after) in enumerate(zip(noise_levels, [*noise_levels[1:], 0.0], strict=True)):
        x0_hat = x / (1 + sigma**2)  # your network: here, for data from N(0, 1)
        x_next = x0_hat + (x - x0_hat) * after / sigma
        steps_left = len(noise_levels) - 1 - index
        detector.update(Step(index, steps_left, x, x0_hat, x_next, steps=len(noise_levels), level=(1.0, sigma)))
        x = x_next
    scores = detector.score()  # (8,)

``steps`` is needed for windows that are fractions, ``level`` for ratios; windows of timesteps need neither.
"""
