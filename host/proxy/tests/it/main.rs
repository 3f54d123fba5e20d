mod layers;
mod observe;
