"""Match contrastive loss on 2-D canonical points, without the K x K matrix of distances."""
