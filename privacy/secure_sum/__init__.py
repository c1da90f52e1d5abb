"""Secure summation: the coordinator learns the weighted sum of the sites' updates and nothing about a single one.

The protocol is that of Bonawitz et al. 2017 ("Practical secure aggregation for privacy-preserving machine learning",
CCS) in its variant against an active coordinator, on a complete graph: every two sites share a mask that cancels in
the sum, every site adds a mask of its own, and Shamir shares of the secrets let the survivors remove what a site that
dropped out left behind. Bell et al. 2020 thin the graph for thousands of clients; up to `terms.MAX_SITES` hospitals
gain nothing from that.

    stage       from each site           to each site                       a site that is lost here
    advertise   public keys, signed      everybody's keys                   takes no part
    share       sealed shares            the shares meant for it            takes no part
    mask        masked integers          who sent some                      its pairwise masks are recovered
    confirm     signature over that list all signatures                     its input counts; t others must answer
    reveal      shares of the masks      -                                  its input counts; t others must answer

`site.Site` and `coordinator.Coordinator` are the two ends, `messages` what goes between them, `terms.Terms` what all
agree on before. Nothing here knows how messages travel.

Not defended against: a site that lies about its own numbers (nothing can be checked of a single input), and what the
sum itself tells, in particular the difference between sums of two rounds with different participants.
"""
