"""Camera backbones: published networks that turn images into feature maps."""
