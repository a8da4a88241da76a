"""Reviews of what no referee ran: public record folders, claims in texts, byte counts, and a whole challenge of both.

One model: a log is a sequence of runs (``logs``), runs form sets (``record``), and claims bind to a set; a printed
number is one class (``number``), for folders and texts. Nothing that is reviewed is executed, imported or fetched.
"""
