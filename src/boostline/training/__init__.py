"""XGBoost: Arrow to DMatrix, fit, measure, explain."""
