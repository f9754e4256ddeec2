"""What inverters and data loggers send: their messages as canonical readings. No I/O here.

topics       patterns of topics: which park and device a topic names
mapping      how a sender's messages are to be read, as a file says it
translate    message -> reading, or why not
counters     energy counters: steps, rollovers, resets, and the mean power between them
crosscheck   power against counters
rows         readings as rows of ``raw/generation``
"""
