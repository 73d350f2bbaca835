"""The closed loop: a planner drives routes through reactive traffic and is judged by what happens.
"""
