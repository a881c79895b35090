"""Frames to arrays and back: the VAE, from scratch or loaded, and the fine-tuning of its decoder.

codec           the Codec protocol; the identity codec
autoencoder     the VAE codec: load, encode, decode, fingerprint
opening         from what a user names as the autoencoder to a codec
small_vae       small VAEs from scratch, started as the best linear codec
moving_crops    training crops, drawn towards what moves and what is rare
pixel_loss      pixel loss weighted towards what moves and what is rare
reconstruction  PSNR of a codec over all and over moving pixels
palette         the few flat colours of a game, and frames in nothing but them
decoder         fine-tuning of the decoder alone
"""
