"""Other people's models and samplers: a pipeline of `diffusers`, a sampler of k-diffusion, a denoiser of azula.

Each module takes the other library's objects by their documented interface and imports nothing of it.
"""
