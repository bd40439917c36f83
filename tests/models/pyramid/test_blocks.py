"""What the pyramid methods share and no golden shows."""

import torch

from tal_core.models.pyramid.blocks import drop_channels


def test_channels_are_left_out_for_a_whole_clip_and_the_others_make_good():
    torch.manual_seed(0)
    features = torch.rand(3, 7, 4000) + 0.5
    dropped = drop_channels(features, 0.3, training=True)
    gone = (dropped == 0).all(dim=1)
    assert torch.equal(gone, (dropped == 0).any(dim=1)), "a channel is dropped as a whole"
    assert not torch.equal(gone[0], gone[1]), "every clip has its own"
    assert abs(gone.float().mean() - 0.3) < 0.02
    kept = ~gone.unsqueeze(1).expand_as(features)
    torch.testing.assert_close(dropped[kept], features[kept] / 0.7)


def test_nothing_is_left_out_in_detection_or_without_share():
    features = torch.rand(1, 5, 8)
    assert drop_channels(features, 0.3, training=False) is features
    assert drop_channels(features, 0.0, training=True) is features
