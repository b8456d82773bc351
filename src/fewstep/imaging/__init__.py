"""Files to pictures, pictures to pixels, masks to weights: one function for any picture, one for any mask."""
