// Restyle the figures for light mode, dark mode and printing.
(() => {
  const darkMode = matchMedia("(prefers-color-scheme: dark)");
  const restyle = (isDark) => {
    const textColor = isDark ? "#e8ecf0" : "#1c2126";
    const gridColor = isDark ? "#39424b" : "#dfe4e9";
    const transparent = "rgba(0,0,0,0)";
    for (const plot of document.querySelectorAll(".js-plotly-plot")) {
      const layout = { "font.color": textColor, paper_bgcolor: transparent, plot_bgcolor: transparent };
      for (const axis of Object.keys(plot.layout).filter((key) => /^[xy]axis/.test(key))) {
        Object.assign(layout, {
          [`${axis}.gridcolor`]: gridColor, [`${axis}.linecolor`]: gridColor, [`${axis}.zerolinecolor`]: gridColor,
        });
      }
      Plotly.relayout(plot, layout);
      if (plot.data.some((trace) => trace.type === "parcoords")) {
        Plotly.restyle(plot, { "labelfont.color": textColor, "tickfont.color": textColor, "rangefont.color": transparent });
      }
    }
  };
  restyle(darkMode.matches);
  darkMode.addEventListener("change", () => restyle(darkMode.matches));
  addEventListener("beforeprint", () => restyle(false));
  addEventListener("afterprint", () => restyle(darkMode.matches));
})();
