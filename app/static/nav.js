// On a narrow screen the navigation scrolls: the page that is shown is in sight.
document.querySelector(".top-nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
