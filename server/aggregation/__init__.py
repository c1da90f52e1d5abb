"""From the updates of the sites to the next global tensors.

`mean` is the weighted average that every method starts from, `low_rank` what some of them do with the LoRA factors,
`methods` the table of methods with what is true of each. Only numpy: the coordinator needs no torch.
"""
