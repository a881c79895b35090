"""The first kind of world: an action-conditioned UNet over latents, its loss, its sampler, its real-time loop.

schedule          signal and noise levels of the diffusers schedulers
scene             what stands still, as the preconditioning of the denoiser
joint_rests       which cells rest together, such as the parts of a digit
rests             values at which cells rest, such as bricks and digits: the scene's memory
denoiser          the action-conditioned UNet: build, condition, precondition
stable_diffusion  a UNet begun from Stable Diffusion; LoRA
loss              the loss of the first world: moving cells, self-rollout
energy            the energy score: each noise draws one of several futures
validation        what train_unet looks at while it trains
sampler           context and actions to the next latent, plain functions
ring              the ring of context latents
pipeline          GameNGenPipeline: world folders
latent_world      the first World: the pipeline's loop
"""
