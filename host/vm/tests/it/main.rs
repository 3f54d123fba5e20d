mod host;
mod headers;
mod layers;
