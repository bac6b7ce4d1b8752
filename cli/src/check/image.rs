//! The filter's image, from here. What the controller and the proxies see of it is told with the
//! policies and the filters.

use std::time::Duration;

use spillway_controller::image::{Images, Registries};

use super::hub::Installed;
use super::report::Category;

const DEADLINE: Duration = Duration::from_secs(10);

/// Whether its registry has it, in a form that Istio takes.
pub(super) async fn look(installed: &Installed) -> Option<Category> {
    let image = installed.image.as_ref()?;
    let mut category = Category::new("image");
    let registries = Registries {
        insecure: installed.insecure.clone(),
        ..Registries::default()
    };
    let description = format!("{image} can be had from here");
    match Images::new(registries, DEADLINE).available(image).await {
        Ok(()) => category.fine(description),
        // The controller asks with its own credentials, and from where it is.
        Err(why) if why.reason == "ImageForbidden" || why.reason == "RegistryUnreachable" => category.warn(
            description,
            why.message,
            "If policies are Programmed all is well: the controller has asked from where it is. Else look at the registry.",
        ),
        Err(why) => category.wrong(
            description,
            why.message,
            "Push it by `spillway push`, and name it by `spillway upgrade --set filter.image=…`. Filters that run go on.",
        ),
    }
    Some(category)
}
