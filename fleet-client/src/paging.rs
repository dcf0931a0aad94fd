//! Lists that come in pages, as one stream.

use std::{collections::VecDeque, future::Future};

use futures::{Stream, stream};

use crate::{
    error::Error,
    generated::types::{
        AppLocationSettingPage, AppPage, BackupPage, BinaryPage, DockerRegistryPage, LocationPage,
        PageLinks, PageMeta, ResourcePackagePage, ServerConfigPage, ServerPage,
    },
};

/// Pages of one walk, at most: 100 items each make a million, more than any account holds. A service whose
/// pages never end is reported instead of followed.
pub const PAGES_MAX: i64 = 10_000;

/// A page of any of the API's lists.
pub trait Page {
    /// What is listed.
    type Item;

    /// The items and where the page stands.
    fn into_parts(self) -> (Vec<Self::Item>, PageLinks, PageMeta);
}

macro_rules! pages {
    ($($page:ident of $item:ident),+ $(,)?) => {$(
        impl Page for $page {
            type Item = crate::generated::types::$item;

            fn into_parts(self) -> (Vec<Self::Item>, PageLinks, PageMeta) {
                (self.data, self.links, self.meta)
            }
        }
    )+};
}

pages! {
    AppLocationSettingPage of AppLocationSetting,
    AppPage of App,
    BackupPage of Backup,
    BinaryPage of Binary,
    DockerRegistryPage of DockerRegistry,
    LocationPage of Location,
    ResourcePackagePage of ResourcePackage,
    ServerConfigPage of ServerConfig,
    ServerPage of Server,
}

struct Walk<F, I> {
    fetch: F,
    items: VecDeque<I>,
    next: Option<i64>,
}

/// Every item of a list, page by page, fetched as the stream is read. `fetch` asks for one page, from 1 on. Ask
/// for an order (`sort[]=id`), or items that move between pages are seen twice or never.
///
/// The stream ends after the last page, or after its first error. A page that has no next, that is the last by
/// its number, or that is empty ends the walk; a page other than the one asked for is an error.
///
/// ```no_run
/// # async fn example(client: fleet_client::Client) -> Result<(), fleet_client::Error> {
/// use futures::TryStreamExt as _;
///
/// let fetch = async |page| {
///     let answer = client.get_servers().app(1).page(page).send().await;
///     answer.map(|it| it.into_inner()).map_err(fleet_client::Error::from)
/// };
/// let servers: Vec<_> = fleet_client::walk(fetch).try_collect().await?;
/// # Ok(())
/// # }
/// ```
pub fn walk<P, F, A>(fetch: F) -> impl Stream<Item = Result<P::Item, Error>>
where
    P: Page,
    F: FnMut(i64) -> A,
    A: Future<Output = Result<P, Error>>,
{
    let start = Walk {
        fetch,
        items: VecDeque::new(),
        next: Some(1),
    };
    stream::try_unfold(start, async |mut walk| {
        loop {
            if let Some(item) = walk.items.pop_front() {
                return Ok(Some((item, walk)));
            }
            let Some(page) = walk.next else {
                return Ok(None);
            };
            let (items, links, meta) = (walk.fetch)(page).await?.into_parts();
            walk.next = after(page, items.is_empty(), &links, &meta)?;
            walk.items = items.into();
        }
    })
}

fn after(
    page: i64,
    is_empty: bool,
    links: &PageLinks,
    meta: &PageMeta,
) -> Result<Option<i64>, Error> {
    let bad = |problem: String| Error::BadResponse {
        status: None,
        problem,
        excerpt: format!("page {} of {}", meta.current_page, meta.last_page),
    };
    if meta.current_page != page {
        return Err(bad(format!("another page than page {page}")));
    }
    if is_empty || links.next.is_none() || page >= meta.last_page {
        return Ok(None);
    }
    if page >= PAGES_MAX {
        return Err(bad(format!("a list of more than {PAGES_MAX} pages")));
    }
    Ok(Some(page + 1))
}
