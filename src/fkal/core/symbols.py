"""The glossary: the paper's symbols, the names that stand for them here, and their axes.

Rows are samples everywhere (the paper writes samples as columns).

| symbol | name | axes | meaning |
| --- | --- | --- | --- |
| D | pool | n images | unlabeled training images, biased |
| D_v | validation | m images | small labeled set that looks like the test set |
| D (classes) | n_classes | d | number of classes |
| P | budget | p | images labeled in one round |
| B | rounds | b = 1..B | rounds |
| L | taps | l = sum of l_j | descriptor length over the tapped layers j |
| M^ | targets | m | misclassified validation images |
| phi | pooled | (n c h w) -> (n c) | global average pooling |
| z, z_v | z | {tap: (n l_j)} | features of pool, of validation |
| g, g_v | g | {tap: (n l_j)} | loss gradients with respect to the same features |
| R_z | r_z | (m n) | feature similarity, eq. 6 |
| R_zg | r_zg | (m n) | Fisher kernel, eq. 12 |
| S | pseudo_label | (n,) | label assumed for a pool image, so that its g exists |
| y, y_v, y^ | y, y_v, y_hat | (n,) | true label of pool, of validation; the model's arg max |
| K | samples | k | Monte Carlo passes of a model, or views of an image |
| E | ensemble | scalar | models of an ensemble |
| C_zg(d) | View, trace, information | (d n ...) | moments of z and g over the views, under class d |
| N^b, N_b | open_pool, labeled | (n,), (l,) | unlabeled and labeled pool images of round b |
| I | epochs | scalar | epochs of a training |
| ir | ratio | scalar | images of the kept half : images of the cut half |
| theta^0 | theta_0 | state dict | weights before the first label |

A *position* counts within the unlabeled pool; an *index* counts within the dataset.
"""
