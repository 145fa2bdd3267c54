"""Own pools of images, labeled by people: the folder of a project, its lists of images, its batches and labels."""
