"""Networks that give spatial features and one logit per class: timm's, and the published ResNet-50."""
