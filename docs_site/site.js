// Tables that scroll can be reached with the keyboard. The theme wraps them after a page has loaded.
document$.subscribe(() =>
  setTimeout(() =>
    document.querySelectorAll(".md-typeset__scrollwrap").forEach((part) => {
      part.tabIndex = 0;
    })
  )
);
