import math

import pytest
import torch
import torch.nn.functional as F


def test_every_class_is_drawn_equally_often_in_an_epoch_of_n_images(make_task, make_method):
    method = make_method("rs", make_task((40, 8, 1, 11)), batch_size=7)
    labels = torch.cat([batch.labels for _, batch in method.batches()])
    assert torch.bincount(labels).tolist() == [15, 15, 15, 15]


def test_no_view_or_order_is_repeated_from_epoch_to_epoch(make_task, make_method):
    task = make_task((12, 5, 1))
    method = make_method("rs", task)
    drawn = []
    for epoch in (1, 2, 1):
        task.streams.start_epoch(epoch)
        drawn.append(torch.cat([batch.positions for _, batch in method.batches()]).tolist())
    assert drawn[0] != drawn[1]
    assert drawn[0] == drawn[2]


def test_loss_is_plain_cross_entropy_and_trains_the_whole_network(make_task, make_method, train):
    method = make_method("rs", make_task())
    _, batch = next(method.batches())
    logits = method.model.head(method.model.encoder(batch.images))
    torch.testing.assert_close(method.loss(batch), F.cross_entropy(logits, batch.labels))
    before = [p.clone() for p in method.parameters()]
    train(method)
    assert all(not torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))


@pytest.mark.parametrize("counts", [(9, 1), (3,) + (1,) * 99])
def test_trains_with_2_and_100_classes(make_task, make_method, train, counts):
    (logs,) = train(make_method("rs", make_task(counts, validation=1), epochs=1, batch_size=16))
    assert math.isfinite(logs["loss"])


def test_wins_back_the_tail(make_task, make_method, train):
    task = make_task((60, 2), validation=10)
    tail = task.validation.labels == 1
    recalls = []
    for name in ("ce", "rs"):
        method = make_method(name, task, epochs=3, batch_size=8, lr=0.02)
        train(method)
        (images,) = task.in_order(task.validation)
        with torch.no_grad():
            recalls.append((method.predict(images.images).argmax(1) == 1)[tail].float().mean())
    assert recalls[1] > recalls[0]
