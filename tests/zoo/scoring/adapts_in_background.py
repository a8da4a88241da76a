"""Answers ADAPTED at once and goes on learning in a thread, so the copied state is not the one it scores with."""

import threading
import time

from zoo_models import Bigram, built

RULE = "S4-STATE-DECLARED"


class Learner(Bigram):
    def __init__(self, size, background):
        super().__init__(size)
        self.background, self.thread = background, threading.Thread()

    def adapt(self, inputs, targets):
        def work():
            time.sleep(0.02 * self.background)
            self.learn(inputs, targets)

        self.thread = threading.Thread(target=work)
        self.thread.start()
        if not self.background:
            self.thread.join()

    def score(self, inputs):
        if self.thread.ident:
            self.thread.join()
        yield from super().score(inputs)


cheat = built(Learner, background=True)
honest = built(Learner, background=False)
