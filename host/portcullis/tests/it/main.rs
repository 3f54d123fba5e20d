mod layers;
mod source;
