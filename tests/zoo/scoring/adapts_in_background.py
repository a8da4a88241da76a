"""Answers ADAPTED at once and learns in a thread later, so the copied state is not the one it scores with."""

import threading

from zoo_models import Bigram, built

RULE = "S4-STATE-DECLARED"


class Learner(Bigram):
    def __init__(self, size, background):
        super().__init__(size)
        self.background, self.thread, self.copied = background, threading.Thread(), threading.Event()

    def adapt(self, inputs, targets):
        chunk = inputs.clone(), targets.clone()

        def work():
            self.copied.wait()
            self.learn(*chunk)

        if not self.background:
            self.copied.set()
        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        if not self.background:
            self.thread.join()

    def score(self, inputs):
        if self.thread.ident:  # the next chunk is asked for: the state before it has been copied
            self.copied.set()
            self.thread.join()
            self.copied.clear()
        yield from super().score(inputs)


cheat = built(Learner, background=True)
honest = built(Learner, background=False)
