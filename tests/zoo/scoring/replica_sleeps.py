"""Falls asleep when it is asked to repeat something; the twin is only slow."""

import time

from zoo_models import Watchful, built

RULE = "S4-STATE-DECLARED"
CHEAT_MESSAGE_S = 4.0


class Slow(Watchful):
    sleeps_s = 0.001

    def load_state(self):
        if self.replays():
            time.sleep(self.sleeps_s)


class Cheat(Slow):
    peeks, sleeps_s = 0.5, 5.0


cheat = built(Cheat)
honest = built(Slow)
