"""The review: CT and synthetic MRI beside each other, linked, with layers over them. :class:`.review.Review`."""
