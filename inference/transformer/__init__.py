"""The transformer: parks and times in, features to the predictor, kilowatts out."""
