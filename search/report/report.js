// The figures follow the page: light, dark, or paper.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = (night) => {
    const ink = night ? "#e8ecf0" : "#1c2126";
    const grid = night ? "#39424b" : "#dfe4e9";
    for (const plot of document.querySelectorAll(".js-plotly-plot")) {
      const layout = { "font.color": ink, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
      for (const axis of Object.keys(plot.layout).filter((key) => /^[xy]axis/.test(key))) {
        Object.assign(layout, {
          [`${axis}.gridcolor`]: grid, [`${axis}.linecolor`]: grid, [`${axis}.zerolinecolor`]: grid,
        });
      }
      Plotly.relayout(plot, layout);
      if (plot.data.some((trace) => trace.type === "parcoords")) {
        Plotly.restyle(plot, { "labelfont.color": ink, "tickfont.color": ink, "rangefont.color": "rgba(0,0,0,0)" });
      }
    }
  };
  paint(dark.matches);
  dark.addEventListener("change", () => paint(dark.matches));
  addEventListener("beforeprint", () => paint(false));
  addEventListener("afterprint", () => paint(dark.matches));
})();
