import torch
import torch.nn.functional as F

from .helpers import drawn_by_class, moved, recall, snapshot


def test_every_class_is_drawn_equally_often_in_an_epoch_of_n_images(make_task, make_method):
    method = make_method("rs", make_task((40, 8, 1, 11)), batch_size=7)
    assert drawn_by_class(method) == [15, 15, 15, 15]


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
    before = snapshot(method)
    train(method)
    assert moved(method, before) == before.keys()


def test_wins_back_the_tail(make_task, make_method, train):
    task = make_task((60, 2), validation=10)
    recalls = []
    for name in ("ce", "rs"):
        method = make_method(name, task, epochs=3, batch_size=8, lr=0.02)
        train(method)
        recalls.append(recall(method, 1))
    assert recalls[1] > recalls[0]
